"""Triton's kernels against the native code; on a CPU through Triton's interpreter."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported
pytest.importorskip("triton", reason="triton is not installed")

from functional.attention import attend
from functional.reconstruction import Negatives, negatives_log_sum_exp
from tests.support.problems import normal, offsets_for, problem

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize(("size", "searched"), [((1, 1), False), ((9, 17), False), ((1, 1), True), ((3, 5), True)])
def test_attend(size, searched, prior):
    query, keys, values = (part.float().to(DEVICE) for part in problem(size, channels=5))
    offsets = [None if offset is None else offset.float().to(DEVICE) for offset in offsets_for(size)]
    how = {"offsets": offsets if searched else None, "prior": prior}
    native, triton = (
        attend(query, keys.unbind(1), values.unbind(1), 2, backend=backend, **how) for backend in ("native", "triton")
    )
    torch.testing.assert_close(triton, native, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("searched", [False, True])
def test_the_first_of_equal_cells_counts(searched):
    """With constant features, the two largest logits are those of a window's first two cells, or of (6, 3) and one."""
    flat = torch.full((1, 3, 8, 5), 2.0, device=DEVICE)
    key = flat.clone()
    key[..., 6, 3] = 3
    values = normal(1, 2, 8, 5).float().to(DEVICE)
    offsets = [torch.zeros(1, 2, 8, 5, device=DEVICE)] if searched else None
    native, triton = (
        attend(flat, [key], [values], 1, offsets=offsets, prior=True, backend=backend)
        for backend in ("native", "triton")
    )
    torch.testing.assert_close(triton, native, atol=1e-5, rtol=1e-5)


def test_negatives():
    """Values and gradients; each sample has its own negatives."""
    keys = normal(4, 5, 70, 6, seed=1).float().to(DEVICE)
    used = torch.rand(2, 70, generator=torch.Generator().manual_seed(2)).argsort(1) < 66
    negatives = Negatives(keys, used.to(DEVICE))
    found = []
    for backend in ("native", "triton"):
        query = normal(2, 6, 4, 5).float().to(DEVICE).requires_grad_()
        total = negatives_log_sum_exp(query, negatives, 1, backend)
        found.append((total, *torch.autograd.grad(total.square().sum(), query)))
    for native, triton in zip(*found, strict=True):
        torch.testing.assert_close(triton, native, atol=1e-5, rtol=1e-5)
