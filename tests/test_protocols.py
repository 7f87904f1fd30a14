"""The protocols that other features are compared by, each against a plain dense formulation of it."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from functional.top_k import attend_top
from models.propagation import UNKNOWN, Propagator
from models.protocol import PROTOCOLS, Propagation
from tests.builders import one_thread

LABELS = 3


@pytest.fixture(autouse=True)
def single_thread():
    with one_thread():
        yield


def random_maps(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def seen(height: int, width: int, radius: int, *, circle: bool) -> Tensor:
    """Whether a query [H*W] sees a cell [H*W] through its window."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack((y, x), -1).flatten(0, 1).double()
    apart = places[:, None] - places
    return (apart.norm(dim=-1) < radius) if circle else (apart.abs().amax(-1) <= radius)


def dense(query, keys, values, windows, top_k):
    """All queries [C, N] with all cells of T references [T, C, N]; windows: T of [N, N] bool -> [K, N]."""
    logits = torch.cat(
        [(query.T @ key).masked_fill(~window, -torch.inf) for key, window in zip(keys, windows, strict=True)], 1
    )
    least = logits.topk(min(top_k, logits.shape[1]), 1).values[:, -1:]
    weights = logits.masked_fill(logits < least, -torch.inf).softmax(1)
    return torch.cat(list(values), 1) @ weights.T


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (17, 12), (9, 30)])
@pytest.mark.parametrize("circle", [False, True])
@pytest.mark.parametrize(("radius", "top_k"), [(1, 4), (3, 10), (12, 5)])
def test_attention_over_the_best(height, width, circle, radius, top_k):
    """At the frame's edge a window has fewer cells than are asked for."""
    query, keys = random_maps(2, 6, height, width), random_maps(3, 2, 6, height, width, seed=1)
    values, windowed = random_maps(3, 2, LABELS, height, width, seed=2), [True, False, True]
    ours = attend_top(query, keys, values, radius, top_k=top_k, circle=circle, windowed=windowed)
    local = seen(height, width, radius, circle=circle)
    windows = [local if kind else torch.ones_like(local) for kind in windowed]
    for sample in range(2):
        flat = (maps.flatten(-2) for maps in (query[sample], keys[:, sample], values[:, sample]))
        torch.testing.assert_close(ours[sample].flatten(1), dense(*flat, windows, top_k))


def propagate_densely(name: str, video: list[Tensor], first: Tensor) -> list[Tensor]:
    """Soft labels of all frames [K, N], by the words of the protocol; video: features [C, H, W]; first: [K, N]."""
    height, width = video[0].shape[1:]
    context, radius, top_k, temperature = {"crw": (20, 12, 10, 0.05), "dino": (7, 12, 5, 0.1)}[name]
    near = seen(height, width, radius, circle=name == "crw")
    flat = [F.normalize(features.flatten(1), dim=0) for features in video]
    soft = [first]
    for t in range(1, len(video)):
        frames = sorted({0} | {s for s in range(t) if t - s <= context})
        windows = [torch.ones_like(near) if name == "crw" and s == 0 else near for s in frames]
        query, keys = flat[t] / temperature, torch.stack([flat[s] for s in frames])
        soft.append(dense(query, keys, [soft[s] for s in frames], windows, top_k))
    return soft


@pytest.mark.parametrize("name", ["crw", "dino"])
def test_protocols(name):
    """On the features themselves as frames, for longer than the context."""
    stride, how = PROTOCOLS[name]
    assert stride == {"crw": 8, "dino": 16}[name]
    height, width = 6, 20
    labels = torch.randint(0, LABELS, (height, width), generator=torch.Generator().manual_seed(0))
    labels[0, :LABELS] = torch.arange(LABELS)
    start, drift = random_maps(5, height, width), random_maps(24, 5, height, width, seed=1)
    video = [start + 0.2 * drift[:t].sum(0) for t in range(24)]
    propagator = Propagator(lambda frames: frames[..., ::stride, ::stride], how, stride=stride)
    expected = propagate_densely(name, video, F.one_hot(labels, LABELS).permute(2, 0, 1).flatten(1).double())
    for t, features in enumerate(video):
        frame = features.repeat_interleave(stride, 1).repeat_interleave(stride, 2)
        given = labels.repeat_interleave(stride, 0).repeat_interleave(stride, 1) if t == 0 else None
        prediction = propagator.step(frame, given)
        torch.testing.assert_close(prediction.soft.flatten(1).double(), expected[t], atol=1e-6, rtol=1e-5)
        if t:
            full = F.interpolate(prediction.soft[None], scale_factor=stride, mode="bilinear")[0]
            if name == "dino":  # each label's map is stretched
                full = (full - full.amin((1, 2), True)) / (full.amax((1, 2), True) - full.amin((1, 2), True))
            assert torch.equal(prediction.mask, full.argmax(0))


def test_soft_labels_under_the_prior_stay_shares():
    """The prior's weights do not sum to 1; what is remembered, and is multiplied with them again, must."""
    start, drift = random_maps(5, 12, 20, dtype=torch.float32), random_maps(50, 5, 12, 20, seed=1, dtype=torch.float32)
    propagator = Propagator(lambda frames: 3 * frames, Propagation(prior=True, soft=True, search=False), stride=1)
    first = F.one_hot(torch.arange(240).view(12, 20) % LABELS).permute(2, 0, 1).float()
    for t in range(50):
        soft = propagator.step(start + 0.05 * drift[:t].sum(0), first if t == 0 else None).soft
        torch.testing.assert_close(soft.sum(0), torch.ones(12, 20), atol=1e-4, rtol=0)


def test_what_does_not_go_together():
    with pytest.raises(ValueError, match="grow"):
        Propagation(soft=True, foreground_gain=1.05)
    for fields in ({"circle": True}, {"first_windowed": False}, {"top_k": 5, "prior": True}):
        with pytest.raises(ValueError, match="top_k"):
            Propagation(**fields)


def colours(frames: Tensor) -> Tensor:
    """One-hot features of a frame whose channel 0 numbers the colour of each 4×4 cell."""
    return 30 * F.one_hot(frames[:, 0, ::4, ::4].long(), 4).movedim(-1, 1).float()


def frame_of(cells: list[list[int]]) -> Tensor:
    return torch.tensor(cells).float().repeat_interleave(4, 0).repeat_interleave(4, 1).expand(3, -1, -1)


def test_late_objects_join_and_their_frame_stays():
    """Where a late label is unknown the frame is predicted; long afterwards the new object is still known."""
    propagator = Propagator(colours, Propagation(radius=3, search=False))
    before, cells = [[1, 1, 0, 0], [0, 0, 0, 0]], [[1, 1, 0, 0], [0, 0, 0, 2]]
    propagator.step(frame_of(before), frame_of(before)[0].long())
    late = torch.full((8, 16), UNKNOWN)
    late[4:, 12:] = 2
    mask = propagator.step(frame_of(cells), late).mask
    assert mask[2::4, 2::4].tolist() == cells  # in the middle of each cell
    empty = frame_of([[0] * 4] * 2)
    for _ in range(12):  # both objects are hidden for longer than recent frames are remembered
        assert not propagator.step(empty).mask.any()
    assert 1 in propagator.remembered_frames
    assert propagator.step(frame_of(cells)).mask[2::4, 2::4].tolist() == cells


def test_soft_labels_are_taken_and_remembered():
    """On the feature grid; what is remembered is soft where the protocol says so."""
    frame, soft = frame_of([[1, 1, 0, 0]]), torch.tensor([[[0.7, 0.7, 1, 1]], [[0.3, 0.3, 0, 0]]])
    for remember, expected in ((True, soft[1]), (False, torch.zeros(1, 4))):
        propagator = Propagator(colours, Propagation(radius=1, soft=remember))
        propagator.step(frame, soft)
        torch.testing.assert_close(propagator.step(frame).soft[1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "labels",
    [
        None,
        torch.full((4, 16), UNKNOWN),
        torch.zeros(4, 12).long(),
        torch.zeros(2, 1, 3),
        torch.zeros(1, 4),
        torch.zeros(1, 4, 16).long(),
    ],
)
def test_labels_that_do_not_fit(labels):
    with pytest.raises(ValueError, match="labels"):
        Propagator(colours, Propagation(radius=1)).step(frame_of([[1, 1, 0, 0]]), labels)
