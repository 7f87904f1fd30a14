"""Correlation of local windows against its plain definition in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from functional.correlation import correlate, require_backend
from tests.support import dense
from tests.support.problems import SIZES, normal, problem


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("radius", [0, 1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_correlate(size, radius, dilation, backend):
    query, keys, _ = problem(size)
    expected = dense.correlate(query, keys[:, 0], radius, dilation)
    torch.testing.assert_close(correlate(query, keys[:, 0], radius, dilation, backend=backend), expected)


def test_correlate_refuses_what_does_not_fit(backend):
    with pytest.raises(ValueError, match="must be one shape"):
        correlate(normal(1, 2, 3, 3), normal(1, 2, 3, 4), 1, backend=backend)
    with pytest.raises(ValueError, match="must be one shape"):
        correlate(normal(2, 3, 3), normal(2, 3, 3), 1, backend=backend)


@pytest.mark.filterwarnings("ignore:'saved_variables' is deprecated:DeprecationWarning")
@pytest.mark.parametrize("dilation", [1, 2])
def test_correlate_gradient(dilation, backend):
    inputs = normal(2, 2, 3, 4).requires_grad_(), normal(2, 2, 3, 4, seed=1).requires_grad_()
    assert gradcheck(lambda q, k: correlate(q, k, 1, dilation, backend=backend), inputs)


def test_triton_needs_a_gpu_or_its_interpreter(monkeypatch):
    pytest.importorskip("triton", reason="triton is not installed")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    require_backend("triton", torch.device("cuda"))
    with pytest.raises(ValueError, match="needs a CUDA device"):
        require_backend("triton", torch.device("cpu"))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    require_backend("triton", torch.device("cpu"))
