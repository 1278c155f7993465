"""Our MCITrack equals the published one.

Large networks and long sequences only with PARITY=whole; the names and shapes of the parameters always.
"""

import json

import pytest
import torch

from common.networks.mcitrack import CONFIGS, MCITrack
from tests.parity.cases import WHOLE, check_parameters
from tests.parity.mcitrack import config_of, run_case
from tests.parity.siamese import check, parameters

# Whether the single forward passes are run, and how many frames are tracked.
PARTS = {"mcitrack_t224": (True, 6)}


@pytest.mark.parametrize("folder", parameters("mcitrack"))
def test_the_parameters_are_the_published_ones(folder):
    case = json.loads((folder / "case.json").read_text())
    with torch.device("meta"):
        check_parameters(MCITrack(config_of(case)), case)


@pytest.mark.parametrize("folder", parameters("mcitrack"))
def test_it_computes_what_is_published(folder):
    if folder.name not in PARTS and not WHOLE:
        pytest.skip("takes a minute: set PARITY=whole")
    check(folder, run_case, *PARTS.get(folder.name, (True, 1000)))


def test_the_large_variant_of_384_pixels_differs_from_that_of_224_in_its_tables_only():
    """No case exists for it: the rest is proven by its smaller sister."""
    with torch.device("meta"):
        small, large = (
            {name: value.shape for name, value in MCITrack(CONFIGS[name]).state_dict().items()}
            for name in ("mcitrack_l224", "mcitrack_l384")
        )
    assert small.keys() == large.keys()
    assert {name for name in small if small[name] != large[name]} == {"encoder.body.pos_embed"}
    assert large["encoder.body.pos_embed"] == (1, 24**2 + 12**2, 768)
