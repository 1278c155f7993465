"""Our TransT equals the published one. The whole sequence only with PARITY=whole."""

import json

import pytest
import torch

from common.networks.transt import CONFIGS, TransT
from tests.parity.cases import check_parameters
from tests.parity.siamese import check, parameters
from tests.parity.transt import run_case


@pytest.mark.parametrize("folder", parameters("transt"))
def test_the_parameters_are_the_published_ones(folder):
    case = json.loads((folder / "case.json").read_text())
    with torch.device("meta"):
        check_parameters(TransT(CONFIGS[case["config"].split()[0]]), case)


@pytest.mark.parametrize("folder", parameters("transt"))
def test_it_computes_what_is_published(folder):
    check(folder, run_case, single=True, frames=3)
