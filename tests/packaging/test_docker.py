"""The images' recipes hold together with the configs and the pins. Nothing is built here: that needs Docker."""

from __future__ import annotations

import json
import re
import shlex
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.packaging.rules import ROOT, module_file, pinned

DOCKER = ROOT / "docker"
NAMES = ("Dockerfile.cpu", "Dockerfile.gpu", "Dockerfile.deploy")
REPOSITORY = "supervisely/video-labeling-by-tracking"


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile in order: name and the rest, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for line in joined.splitlines() if line.strip() for name, _, rest in [line.partition(" ")]]


def label(name: str, key: str) -> str:
    """A label's value, found as the platform's builder finds it: by its line."""
    match = re.search(rf"^LABEL +{re.escape(key)}=(\S+)$", (DOCKER / name).read_text(), re.MULTILINE)
    assert match is not None, f"{name} has no label {key}"
    return match[1].strip('"')


def image(device: str) -> str:
    return f"{REPOSITORY}-{device}:{label(f'Dockerfile.{device}', 'org.opencontainers.image.version')}"


@pytest.mark.parametrize("name", NAMES)
def test_sdk_label_is_the_pin(name: str) -> None:
    assert label(name, "python_sdk_version") == pinned("supervisely")


@pytest.mark.parametrize("name", NAMES)
def test_recipe_is_sound(name: str) -> None:
    recipe = instructions((DOCKER / name).read_text())
    known = {"FROM", "ARG", "LABEL", "RUN", "ENV", "COPY", "WORKDIR", "EXPOSE", "USER", "VOLUME", "HEALTHCHECK", "CMD"}
    assert {instruction for instruction, _ in recipe} <= known  # no ADD, which fetches and unpacks
    defaults = dict(rest.split("=", 1) for instruction, rest in recipe if instruction == "ARG")
    bases = [rest for instruction, rest in recipe if instruction == "FROM"]
    assert len(bases) == 1  # the platform's builder names no target
    base = re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], bases[0])
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*", base), "a base is pinned to a patch release"
    for instruction, rest in recipe:
        if instruction == "RUN" and "apt-get install" in rest:
            assert "apt-get update &&" in rest
            assert "--no-install-recommends" in rest
            assert rest.endswith("rm -rf /var/lib/apt/lists/*")
        if instruction == "RUN" and "pip install" in rest:
            assert re.search(r"pip install( -r \S+)+ ", rest), "only from a pinned file"
            assert "pip check" in rest
        if instruction == "COPY":
            *sources, _ = [part for part in shlex.split(rest) if not part.startswith("--")]
            assert all((ROOT / source).exists() for source in sources), rest


def test_system_libraries_are_those_that_the_packages_need() -> None:
    text = (DOCKER / "Dockerfile.cpu").read_text()
    assert all(library in text for library in ("libgl1", "libglib2.0-0", "libmagic1"))


@pytest.mark.parametrize("name", NAMES)
def test_context_is_what_the_recipe_copies_and_no_environment_files(name: str) -> None:
    lines = (DOCKER / f"{name}.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied: set[str] = set()
    for instruction, rest in instructions((DOCKER / name).read_text()):
        if instruction == "COPY":
            copied |= {part for part in shlex.split(rest)[:-1] if not part.startswith("--")}
    assert allowed == copied


def test_gpu_image_stands_on_the_cpu_image_and_keeps_its_pins() -> None:
    recipe = instructions((DOCKER / "Dockerfile.gpu").read_text())
    assert recipe[0] == ("FROM", image("cpu"))
    pins = (DOCKER / "gpu.txt").read_text().splitlines()[1:]
    assert pins
    assert set(pins) <= set((ROOT / "requirements.txt").read_text().splitlines()), "pip would be asked for two versions"
    (install,) = [rest for instruction, rest in recipe if instruction == "RUN"]
    assert "requirements.txt" in install and "gpu.txt" in install


def test_python_of_the_image_is_one_that_the_project_takes() -> None:
    (base,) = [
        rest for instruction, rest in instructions((DOCKER / "Dockerfile.cpu").read_text()) if instruction == "FROM"
    ]
    assert base.startswith("python:3.11.")
    assert 'requires-python = ">=3.11,<3.13"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "config", [ROOT / "config.json", *sorted(ROOT.glob("apps/*/config.json"))], ids=lambda p: p.parent.name
)
def test_configs_name_an_image_that_is_built_here(config: Path) -> None:
    content = json.loads(config.read_text())
    if "docker_image" not in content:
        pytest.skip("runs without an image (test_configs.py allows that to local apps only)")
    assert content["docker_image"] in {image("cpu"), image("gpu")}


def test_deploy_image_runs_the_all_in_one_app_as_an_ordinary_user() -> None:
    recipe = instructions((DOCKER / "Dockerfile.deploy").read_text())
    (command,) = [rest for instruction, rest in recipe if instruction == "CMD"]
    assert json.loads(command) == shlex.split(json.loads((ROOT / "config.json").read_text())["entrypoint"])
    assert ("USER", "app") in recipe
    assert ("ARG", f"IMAGE_VERSION={image('cpu').rpartition(':')[2]}") in recipe


def _services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DOCKER / "docker-compose.yml").read_text())["services"]
    return services


@pytest.mark.parametrize("name", sorted(_services()))
def test_service_listens_on_this_machine_only_and_its_files_are_there(name: str) -> None:
    service = _services()[name]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert service["image"] in {image("cpu"), image("gpu"), "video-labeling-by-tracking:deploy"}
    assert not {"API_TOKEN", "SERVER_ADDRESS"} & service.get("environment", {}).keys()


@pytest.mark.parametrize("name", sorted(name for name, service in _services().items() if "command" in service))
def test_service_runs_an_app_as_its_config_does(name: str) -> None:
    folder = ROOT if name == "all-in-one" else ROOT / "apps" / name.replace("-", "_")
    command = _services()[name]["command"]
    module = shlex.split(command)[3].partition(":")[0]
    if not (folder / "config.json").is_file() or module_file(module, ROOT) is None:
        pytest.skip(f"{module} is not there yet")
    assert command == json.loads((folder / "config.json").read_text())["entrypoint"]


def test_publish_script_is_one_that_bash_reads() -> None:
    script = DOCKER / "publish.sh"
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", script], check=True)
    refused = subprocess.run([script, "tpu"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "usage" in refused.stderr


PUBLIC = [
    ROOT / "local.env.example",
    ROOT / "config.json",
    *DOCKER.glob("*"),
    *ROOT.glob(".github/workflows/*"),
    ROOT / "docs/packaging.md",
]


def tokens(text: str) -> list[str]:
    """What looks like a secret written down: a value given to a name that says so, or a word as long as a token."""
    named = r"(?i)(?:token|password|secret|api_?key)\w*[ \t]*[=:][ \t]*[\"']?([^\s\"'$]{8,})"
    return re.findall(named, text) + re.findall(r"\b[A-Za-z0-9]{40,}\b", text)


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.name)
def test_no_token_is_written_down(path: Path) -> None:
    assert tokens(path.read_text()) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("API_TOKEN=abcd1234efgh", 1),
        ('SUPERVISELY_TOKEN: "abcd1234efgh"', 1),
        ("x-api-key: " + "a1" * 32, 1),
        ("API_TOKEN=", 0),
        ('TOKEN: "${{ secrets.TOKEN }}"', 0),
        ("secrets:\n      SUPERVISELY_TOKEN:", 0),
    ],
)
def test_tokens_are_seen(text: str, found: int) -> None:
    assert len(tokens(text)) == found


def test_local_env_is_ignored_and_its_example_is_not() -> None:
    def ignored(name: str) -> bool:
        return subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False).returncode == 0

    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert ignored("local.env")
    assert not ignored("local.env.example")


def test_local_env_example_reads_as_an_environment_file() -> None:
    from dotenv import dotenv_values

    values = dotenv_values(ROOT / "local.env.example")
    assert {"TEAM_ID", "WORKSPACE_ID", "PROJECT_ID", "SLY_APP_DATA_DIR"} <= values.keys()
    assert all(int(values[name] or "") > 0 for name in ("TEAM_ID", "WORKSPACE_ID", "PROJECT_ID"))
    assert not {"API_TOKEN", "SERVER_ADDRESS"} & values.keys()
