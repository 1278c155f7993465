"""Our MixFormer equals the published one.

Large networks and long sequences only with PARITY=whole; the names and shapes of the parameters always.
"""

import json

import pytest
import torch

from common.networks.mixformer import CONFIGS, UNUSED, MixFormer
from tests.parity.cases import WHOLE, check_parameters
from tests.parity.mixformer import run_case
from tests.parity.siamese import check, parameters

# Whether the single forward pass is run, and how many frames are tracked.
PARTS = {
    "mixformerv2_small": (True, 12),
    "mixformerv2_base": (True, 0),
    "mixformer_vit_base": (False, 4),
    "mixformer_convmae_base": (False, 4),
}


@pytest.mark.parametrize("folder", parameters("mixformer"))
def test_the_parameters_are_the_published_ones(folder):
    case = json.loads((folder / "case.json").read_text())
    case["parameters"] = {name: shape for name, shape in case["parameters"].items() if name not in UNUSED}
    with torch.device("meta"):
        check_parameters(MixFormer(CONFIGS[case["config"]]), case)


@pytest.mark.parametrize("folder", parameters("mixformer"))
def test_it_computes_what_is_published(folder):
    if folder.name not in PARTS and not WHOLE:
        pytest.skip("takes a minute: set PARITY=whole")
    check(folder, run_case, *PARTS.get(folder.name, (True, 1000)))
