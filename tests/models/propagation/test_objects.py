"""Objects by id: arbitrary ids, late objects, corrections, and propagation at a reduced size."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from functional.metrics import jaccard
from models.propagation import (
    PROTOCOLS,
    UNKNOWN,
    LocalProtocol,
    ObjectPropagator,
    Propagator,
    unknown_elsewhere,
)
from models.propagation.protocol import Protocol
from tests.support.features import STRIDE, Kinds, middles, paint

pytestmark = pytest.mark.usefixtures("single_thread")


NEAR = LocalProtocol(radius=4, search=False)


def start(max_side: int | None = None, protocol: Protocol = NEAR) -> ObjectPropagator:
    encode = Kinds()
    propagator = Propagator(encode, protocol, stride=STRIDE)
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
    mask = step(objects, second, unknown_elsewhere(np.where(second == 2, names[second], 0)))
    assert mask.dtype == np.uint8
    assert np.array_equal(middles(mask), middles(names[second]))
    third = scene((1, 16, 8), (2, 24, 36), (3, 0, 40))
    mask = step(objects, third, unknown_elsewhere(np.where(third == 3, names[third], 0)))
    assert np.array_equal(middles(mask), middles(names[third]))
    last = scene((2, 24, 32), (3, 4, 40))
    assert np.array_equal(middles(step(objects, last)), middles(names[last]))


def test_a_mask_given_later_corrects():
    objects = start()
    first = scene((1, 8, 8), (2, 24, 40))
    step(objects, first, (first == 1).astype(np.uint8))  # the second object is labelled as background
    corrected = step(objects, first, np.where(first == 2, 5, UNKNOWN))
    assert np.array_equal(middles(corrected), middles(np.array([0, 1, 5])[first]))


@pytest.mark.parametrize("protocol", [LocalProtocol(radius=4), *(protocol for _, protocol in PROTOCOLS.values())])
def test_an_object_that_is_given_later_is_replaced_whole(protocol):
    """Its spill onto a part that looks the same ends in that frame, and is not remembered; the other object stays."""
    objects = start(protocol=protocol)
    kinds = scene((1, 8, 8), (1, 8, 24), (2, 24, 40))  # the first object is the left half of a bar
    spilled = np.where(kinds == 1, 7, 2 * kinds).astype(np.uint8)
    step(objects, kinds, spilled)
    bar, true = spilled == 7, scene((1, 8, 8)) == 1
    mask = step(objects, kinds, unknown_elsewhere(np.where(true, 7, 0)))
    assert np.array_equal(mask == 7, true)
    assert np.array_equal(middles(mask == 4), middles(spilled == 4))
    assert not middles(np.where(bar & ~true, mask, 0)).any()
    given = np.zeros_like(spilled)  # 0 is the background, as in the first frame
    assert np.array_equal(step(objects, kinds, given), given)


def test_objects_that_vanish_are_told():
    objects = start()
    step(objects, scene((1, 8, 8), (2, 24, 40)), 3 * scene((1, 8, 8), (2, 24, 40)))
    assert objects.vanished == {}
    step(objects, scene((1, 8, 8)))
    step(objects, scene((1, 8, 8)))
    assert objects.vanished == {6: 1}
    step(objects, scene((2, 24, 40)))
    assert objects.vanished == {3: 3}


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
    mask = step(objects, late, unknown_elsewhere(given))
    assert np.array_equal(mask == 2, given == 2)
    assert jaccard(mask == 1, late == 1) > 0.75


def test_a_given_mask_corrects_at_a_reduced_size_too():
    objects = start(max_side=32)
    kinds = scene((1, 8, 8), (2, 24, 40))
    step(objects, kinds, (kinds > 0).astype(np.uint8))  # one object, by mistake
    assert np.array_equal(step(objects, kinds, kinds), kinds)


def test_ids_are_not_blended_at_a_reduced_size():
    """The left edge of object 9 lies between two pixels of the smaller mask; no 5 may come out of 9 and 0."""
    objects = start(max_side=32)
    kinds = scene((1, 0, 0), (2, 24, 41))
    step(objects, kinds, np.array([0, 5, 9], np.uint8)[kinds])
    assert not (step(objects, kinds)[24:] == 5).any()


def test_frames_are_averaged_when_made_smaller_and_never_made_larger():
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:, ::2] = 200
    assert (start(max_side=32).prepare(frame).pixels == 100).all()
    assert start(max_side=80).prepare(frame).pixels.shape[1:] == (48, 64)


def test_the_seconds_of_all_steps_are_summed(monkeypatch):
    clock = iter((0.0, 1.0, 10.0, 13.0))
    monkeypatch.setattr("models.propagation.objects.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    objects = start()
    for given in (scene((1, 8, 8)), None):
        step(objects, scene((1, 8, 8)), given)
    assert objects.seconds == 4


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
