"""The workflows are valid, thin, release every app, and hold no secret."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.packaging.rules import LOCAL_ONLY, ROOT, ROOT_APP, SHAPES_OF_ENGINE

WORKFLOWS = {path.stem: path for path in (ROOT / ".github/workflows").glob("*.yml")}
SHARED = "supervisely-ecosystem/workflows/.github/workflows/{}@master"
SECRETS = {
    "SUPERVISELY_DEV_API_TOKEN",
    "SUPERVISELY_PRIVATE_DEV_API_TOKEN",
    "SUPERVISELY_PROD_API_TOKEN",
    "GH_ACCESS_TOKEN",
}
INPUTS = {
    "SUPERVISELY_SERVER_ADDRESS",
    "SUPERVISELY_PROD_SERVER_ADDRESS",
    "SLUG",
    "RELEASE_VERSION",
    "RELEASE_DESCRIPTION",
    "RELEASE_TYPE",
    "SUBAPP_PATHS",
}
"""What the shared workflow wants, all of it, and what else it takes."""
OPTIONAL = {"SKIP_INSTANCE_VERSION_VALIDATION"}
EVERY_APP = {ROOT_APP, "apps/auto_track", "apps/detector", "apps/labeling_assistant", "apps/predict", *SHAPES_OF_ENGINE}


def load(name: str) -> dict[str, Any]:
    """A workflow; its triggers under "on", which YAML 1.1 reads as true."""
    workflow = yaml.safe_load(WORKFLOWS[name].read_text())
    workflow["on"] = workflow.pop(True)
    return workflow


def paths(job: dict[str, Any]) -> list[str]:
    """The apps that a job releases, read as the platform reads them."""
    return [part.strip(" ").strip("/") for part in job["with"]["SUBAPP_PATHS"].split(",")]


def released_apps(name: str = "release") -> set[str]:
    """The apps that a workflow releases."""
    return {path for job in load(name)["jobs"].values() for path in paths(job)}


def test_the_workflows_are_those_of_the_platform_and_ours() -> None:
    assert WORKFLOWS.keys() == {"ci", "release", "release_branch", "publish", "build_image"}


@pytest.mark.parametrize(
    ("name", "kind", "trigger"),
    [
        ("release", "release", "release"),
        ("release_branch", "release-branch", "push"),
        ("publish", "publish", "workflow_dispatch"),
    ],
)
def test_releases_call_the_shared_workflow_with_all_it_wants_for_every_app(name: str, kind: str, trigger: str) -> None:
    workflow = load(name)
    assert trigger in workflow["on"]
    for job in workflow["jobs"].values():
        assert job["uses"] == SHARED.format("common.yml")
        assert job["secrets"].keys() == SECRETS
        assert INPUTS <= job["with"].keys() <= INPUTS | OPTIONAL
        assert job["with"]["RELEASE_TYPE"] == kind
        assert job.keys() <= {"name", "if", "needs", "uses", "secrets", "with"}
    listed = [path for job in workflow["jobs"].values() for path in paths(job)]
    assert sorted(listed) == sorted(EVERY_APP)
    assert not LOCAL_ONLY & set(listed)


def test_only_the_root_beside_its_requirements_is_released_without_the_check() -> None:
    assert (ROOT / "requirements.txt").is_file()
    jobs = load("release")["jobs"].values()
    unchecked = [job for job in jobs if job["with"].get("SKIP_INSTANCE_VERSION_VALIDATION")]
    assert [paths(job) for job in unchecked] == [[ROOT_APP]]
    assert ROOT_APP not in {path for job in jobs if job not in unchecked for path in paths(job)}
    for name in ("release_branch", "publish"):
        assert "SKIP_INSTANCE_VERSION_VALIDATION" not in WORKFLOWS[name].read_text()


def test_release_branch_leaves_the_main_branches_alone() -> None:
    assert set(load("release_branch")["on"]["push"]["branches-ignore"]) == {"main", "master"}


def test_images_are_built_from_dockerfiles_that_are_there() -> None:
    workflow = load("build_image")
    (job,) = workflow["jobs"].values()
    assert job["uses"] == SHARED.format("build_image.yml")
    assert job["secrets"].keys() == {"DOCKERHUB_USERNAME", "DOCKERHUB_TOKEN"}
    assert job["with"].keys() == {"tag_version", "dockerfile_path", "image_name"}
    devices = workflow["on"]["workflow_dispatch"]["inputs"]["device"]["options"]
    assert devices == ["cpu", "gpu"]
    for device in devices:
        assert (ROOT / job["with"]["dockerfile_path"].replace("${{ inputs.device }}", device)).is_file()


def test_ci_runs_the_readmes_test_command() -> None:
    workflow = load("ci")
    commands = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    assert commands[-1].startswith("make test")
    assert "make test" in (ROOT / "README.md").read_text()
    assert workflow["permissions"] == {"contents": "read"}
    for step in workflow["jobs"]["test"]["steps"]:
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_tokens_come_from_the_secrets_of_the_repository(name: str) -> None:
    for job in load(name)["jobs"].values():
        for value in job.get("secrets", {}).values():
            assert re.fullmatch(r"\$\{\{ secrets\.[A-Z_]+ \}\}", value)
