"""Objects by id: arbitrary ids, late objects, corrections, and propagation at a reduced size."""

import numpy as np
import pytest
import torch

from functional.metrics import jaccard
from models.propagation import LocalProtocol, ObjectPropagator, Propagator, TopKProtocol
from tests.support.features import STRIDE, Kinds, middles, paint

pytestmark = pytest.mark.usefixtures("single_thread")


def start(max_side: int | None = None) -> ObjectPropagator:
    encode = Kinds()
    propagator = Propagator(encode, LocalProtocol(radius=4, search=False), stride=STRIDE)
    return ObjectPropagator(propagator, encode.prepare, max_side=max_side)


def scene(*boxes: tuple[int, int, int], size: tuple[int, int] = (48, 64), side: int = 16) -> np.ndarray:
    """Squares (kind, top, left) on a background of kind 0."""
    kinds = np.zeros(size, np.uint8)
    for kind, top, left in boxes:
        kinds[top : top + side, left : left + side] = kind
    return kinds


def step(objects: ObjectPropagator, kinds: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    return objects.step(objects.prepare(paint(kinds)), given)


def test_ids_are_kept_and_late_ones_join():
    names = np.array([0, 200, 9, 255], np.uint8)  # the ids of the kinds
    objects = start()
    first = scene((1, 8, 8))
    assert np.array_equal(step(objects, first, names[first]), names[first])
    second = scene((1, 12, 8), (2, 24, 40))
    mask = step(objects, second, np.where(second == 2, names[second], 0))
    assert mask.dtype == np.uint8
    assert np.array_equal(middles(mask), middles(names[second]))
    third = scene((1, 16, 8), (2, 24, 36), (3, 0, 40))
    mask = step(objects, third, np.where(third == 3, names[third], 0))
    assert np.array_equal(middles(mask), middles(names[third]))
    last = scene((2, 24, 32), (3, 4, 40))
    assert np.array_equal(middles(step(objects, last)), middles(names[last]))


def test_a_mask_given_later_corrects():
    objects = start()
    first = scene((1, 8, 8), (2, 24, 40))
    step(objects, first, (first == 1).astype(np.uint8))  # the second object is labelled as background
    corrected = step(objects, first, np.where(first == 2, 5, 0).astype(np.uint8))
    assert np.array_equal(middles(corrected), middles(np.array([0, 1, 5])[first]))


@pytest.mark.parametrize(("size", "max_side"), [((48, 64), 32), ((46, 62), 31), ((48, 64), 64)])
def test_frames_are_propagated_smaller(size, max_side):
    """At half the size a cell is 8 pixels of the frame; masks have the frame's size."""
    objects = start(max_side)
    seen = []
    encode = objects.propagator.encode
    objects.propagator.encode = lambda frames: (seen.append(frames.shape[-2:]), encode(frames))[1]
    for shift in (0, 8, 16):
        kinds = scene((1, 8, 8 + shift), (2, 24, 40 - shift), size=size)
        mask = step(objects, kinds, None if shift else kinds)
        assert mask.shape == size
        assert all(jaccard(mask == kind, kinds == kind) > 0.75 for kind in (0, 1, 2)), shift
    assert max(seen[0]) <= max(max_side, *torch.Size([32]))


def test_given_masks_are_returned_unchanged(max_side=32):
    """Given masks are returned unchanged at a reduced size too; a late object appears only where it was given."""
    objects = start(max_side)
    first, late = scene((1, 8, 8)), scene((1, 8, 8), (2, 24, 40))
    given = scene((1, 8, 8), side=13)
    assert np.array_equal(step(objects, first, given), given)
    given = scene((2, 24, 40), side=13)
    mask = step(objects, late, given)
    assert np.array_equal(mask == 2, given == 2)
    assert jaccard(mask == 1, late == 1) > 0.75


def test_maps_are_stretched_at_every_size():
    """Label 2 never has the largest weight, but it has where each label's map is stretched to [0, 1]."""
    soft = torch.tensor([[[0.6, 0.7, 0.9, 1.0]], [[0.4, 0.0, 0.0, 0.0]], [[0.0, 0.3, 0.1, 0.0]]])
    for stretch, expected in ((False, [0, 0, 0, 0]), (True, [1, 2, 0, 0])):
        protocol = TopKProtocol(radius=1, top_k=1, context=1, temperature=1.0, stretch=stretch)
        propagator = Propagator(Kinds(), protocol, stride=4)
        assert propagator.harden(soft, (4, 16))[2, 2::4].tolist() == expected
        enlarged = propagator.harden(soft, (4, 16), enlarged=(8, 32))
        assert enlarged.shape == (8, 32)
        assert enlarged[4, 4::8].tolist() == expected


def test_preparing_frames_ahead_keeps_no_state():
    """Two frames of two sizes are prepared before the first one is stepped: its mask has its own size."""
    objects = start(max_side=32)
    first = scene((1, 8, 8), size=(48, 64))
    for given in (first, None):
        prepared, _ = objects.prepare(paint(first)), objects.prepare(paint(scene(size=(40, 96))))
        assert objects.step(prepared, given).shape == (48, 64)


def test_a_video_that_starts_without_objects():
    objects = start()
    assert not step(objects, scene(), np.zeros((48, 64), np.uint8)).any()
    assert not step(objects, scene()).any()
    late = scene((1, 8, 8))
    assert np.array_equal(step(objects, late, late), late)
    moved = scene((1, 12, 8))
    assert np.array_equal(middles(step(objects, moved)), middles(moved))
