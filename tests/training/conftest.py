"""What all tests of the training draw from: made once, it takes seconds."""

from __future__ import annotations

import pytest

from training import atlas


@pytest.fixture(scope="session")
def sources():
    return atlas.build(3, grounds=4, skins=6, outlines=10)
