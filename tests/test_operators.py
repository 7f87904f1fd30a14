"""Each operator against its plain definition in float64, on any size of frame."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from functional.attention import attend
from functional.compactness import two_gaussians, two_largest
from functional.correlation import correlate
from functional.search import expected_offset, search_dilation
from functional.windows import Tiles, from_subgrids, to_subgrids
from tests import dense

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]
SIZES = [(1, 1), (1, 9), (7, 1), (3, 5), (8, 16), (9, 17), (20, 37)]


@pytest.fixture(params=["native", "sampler"])  # test_triton.py has the third
def backend(request) -> str:
    if request.param == "sampler":
        pytest.importorskip("spatial_correlation_sampler", reason="run scripts/install_sampler.sh")
    return request.param


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(size: tuple[int, int], *, batch: int = 2, references: int = 3, channels: int = 4, labels: int = 3):
    """query [B, C, H, W], keys [B, T, C, H, W], values [B, T, K, H, W]."""
    query = normal(batch, channels, *size)
    keys = normal(batch, references, channels, *size, seed=1)
    return query, keys, normal(batch, references, labels, *size, seed=2)


@pytest.mark.parametrize("device", DEVICES)
def test_operators_on_any_device(device, backend):
    """Forward and backward of the correlation, the search and the attention."""
    parts = [part.to(device).requires_grad_() for part in problem((9, 17))]
    query, keys, values = parts
    offset = expected_offset(query, keys[:, 0], 2, 2, backend=backend)
    offsets = [offset, None, None]
    result = attend(query, keys.unbind(1), values.unbind(1), 2, offsets=offsets, prior=True, backend=backend)
    copies = [part.detach().cpu().requires_grad_() for part in parts]
    query, keys, values = copies
    offsets = [dense.expected_offset(query, keys[:, 0], 2, 2), None, None]
    expected = dense.attend(query, keys, values, 2, offsets, lambda weights: weights)
    plain = attend(parts[0], parts[1].unbind(1), parts[2].unbind(1), 2, offsets=[offset, None, None], backend=backend)
    torch.testing.assert_close(plain.cpu(), expected)
    assert result.device.type == device
    found = torch.autograd.grad(plain.square().sum(), parts)
    for ours, theirs in zip(found, torch.autograd.grad(expected.square().sum(), copies), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs)


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


@pytest.mark.filterwarnings("ignore:'saved_variables' is deprecated:DeprecationWarning")
@pytest.mark.parametrize("dilation", [1, 2])
def test_correlate_gradient(dilation, backend):
    inputs = normal(2, 2, 3, 4).requires_grad_(), normal(2, 2, 3, 4, seed=1).requires_grad_()
    assert gradcheck(lambda q, k: correlate(q, k, 1, dilation, backend=backend), inputs)


@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("size", SIZES)
def test_expected_offset(size, dilation, backend):
    query, keys, _ = problem(size)
    offset = expected_offset(query, keys[:, 0], 2, dilation, backend=backend)
    torch.testing.assert_close(offset, dense.expected_offset(query, keys[:, 0], 2, dilation))


def test_expected_offset_gradient():
    inputs = normal(1, 2, 3, 4).requires_grad_(), normal(1, 2, 3, 4, seed=1).requires_grad_()
    assert gradcheck(lambda q, k: expected_offset(q, k, 1, 2), inputs)


def test_expected_offset_finds_a_shift():
    """A sharp feature map moved by (3, -2) is found there."""
    key = torch.nn.functional.one_hot(torch.arange(30 * 40).view(30, 40)).permute(2, 0, 1)[None].float() * 100
    query = torch.roll(key, (2, -3), (2, 3))  # query[y, x] = key[y - 2, x + 3]
    offset = expected_offset(query, key, 5, 1)[0, :, 8:-8, 8:-8]
    torch.testing.assert_close(offset, torch.tensor([3.0, -2.0]).view(2, 1, 1).expand_as(offset))


@pytest.mark.parametrize(
    ("gap", "dilation"), [(1, None), (15, None), (16, 2), (29, 2), (30, 3), (44, 3), (45, 4), (60, 4), (1000, 4)]
)
def test_search_dilation(gap, dilation):
    assert search_dilation(gap) == dilation


def offsets_for(size: tuple[int, int], batch: int = 2, scale: float = 4.0) -> list[torch.Tensor | None]:
    """The first reference is not searched; the others are, with offsets far beyond small frames."""
    return [None, scale * normal(batch, 2, *size, seed=3), 3 * scale * normal(batch, 2, *size, seed=4)]


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_attend(size, prior, searched, backend):
    query, keys, values = problem(size)
    offsets = offsets_for(size) if searched else None
    result = attend(query, keys.unbind(1), values.unbind(1), 2, offsets=offsets, prior=prior, backend=backend)
    expected = dense.attend(query, keys, values, 2, offsets, dense.compactness_prior if prior else None)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 60),
    radius=st.integers(0, 4),
    references=st.integers(1, 3),
    labels=st.integers(1, 5),
    searched=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_attend_on_any_shape(height, width, radius, references, labels, searched, seed):
    query, keys = normal(1, 3, height, width, seed=seed), normal(1, references, 3, height, width, seed=seed + 1)
    values = normal(1, references, labels, height, width, seed=seed + 2)
    offsets = [None] * references
    if searched:
        offsets[0] = 5 * normal(1, 2, height, width, seed=seed + 3)
    result = attend(query, keys.unbind(1), values.unbind(1), radius, offsets=offsets)
    torch.testing.assert_close(result, dense.attend(query, keys, values, radius, offsets))


def test_attend_gradient():
    query, keys, values = (part.requires_grad_() for part in problem((3, 4), batch=1, references=2, channels=2))
    offset = (0.3 * normal(1, 2, 3, 4, seed=5)).requires_grad_()

    def searched(query, keys, values, offset):
        return attend(query, keys.unbind(1), values.unbind(1), 1, offsets=[None, offset])

    assert gradcheck(searched, (query, keys, values, offset))


def test_a_cell_outside_keeps_its_mass():
    """One position alone: its own cell shares the softmax with eight cells outside, whose logit and value are 0."""
    query = key = torch.tensor([2.0]).view(1, 1, 1, 1)
    result = attend(query, [key], [torch.ones(1, 1, 1, 1)], radius=1)
    torch.testing.assert_close(result.item(), (torch.tensor(4.0).exp() / (torch.tensor(4.0).exp() + 8)).item())


@pytest.mark.parametrize("far", [1e3, -1e3, 1e9, float("nan")])
def test_windows_far_outside_are_empty(far):
    query, keys, values = problem((9, 17), references=1)
    offset = torch.full((2, 2, 9, 17), far, dtype=torch.float64)
    result = attend(query, keys.unbind(1), values.unbind(1), 2, offsets=[offset])
    if far == far:
        assert not result.any()


def test_attend_needs_as_many_of_each():
    query, keys, values = problem((3, 4))
    with pytest.raises(ValueError, match="must be as many"):
        attend(query, keys.unbind(1), values.unbind(1)[:2], 1)


@pytest.mark.parametrize("size", [*SIZES, (21, 75)])
def test_tiles_cover_a_frame_once(size):
    maps = normal(2, 3, *size)
    tiles = Tiles(maps, radius=2)
    queries = tiles.queries(maps)
    parts = [queries[chunk].flatten(0, 1).mT for chunk in tiles.chunks()]
    assert torch.equal(tiles.assemble(parts), maps)


def test_a_tile_s_block_holds_its_windows():
    maps = normal(2, 3, 21, 75)
    tiles = Tiles(maps, radius=2)
    block = tiles.blocks(maps)[1, 1, 2]  # of the tile whose first query is (8, 16), [side, side, C]
    assert torch.equal(block, maps[1, :, 6:18, 14:26].permute(1, 2, 0))


@pytest.mark.parametrize("dilation", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_subgrids(size, dilation):
    maps = normal(2, 3, *size)
    grids = to_subgrids(maps, dilation)
    assert torch.equal(grids[0, :, 0], maps[0, :, 0, ::dilation])
    assert torch.equal(from_subgrids(grids, dilation, *size), maps)


def test_two_largest():
    logits = normal(30, 4, 5, 7)
    logits[:10, :, 2:] = -torch.inf  # one row is left, or two
    logits[:5, :, 1:] = -torch.inf
    values, rows, columns = two_largest(logits)
    expected, cells = logits.flatten(2).topk(2)
    assert torch.equal(values, expected)
    assert torch.equal(7 * rows + columns, cells)


def test_two_gaussians_of_a_single_cell():
    assert two_gaussians(torch.ones(1, 1)).item() == 1
