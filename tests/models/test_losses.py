"""The losses beyond what the golden training steps show (tests/training/test_parity.py)."""

import pytest
import torch

from functional.reconstruction import Negatives
from models.liir import PairFeatures
from models.losses import reconstruct_region
from tests.support.problems import normal


@pytest.mark.parametrize("negatives", [None, Negatives(normal(2, 3, 5, 4), torch.ones(1, 5, dtype=torch.bool))])
def test_an_unknown_backend_is_not_ignored(negatives):
    maps = normal(1, 4, 2, 3)
    with pytest.raises(KeyError, match="none"):
        reconstruct_region(PairFeatures(maps, maps, maps, maps), normal(1, 1, 4, 6), negatives, backend="none")
