"""Scores of masks against plain definitions, values by hand and the reference implementation (docs/method.md §9)."""

import json
import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from functional.metrics import (
    boundary,
    boundary_f,
    class_ious,
    confusion,
    davis_measure,
    frame_scores,
    jaccard,
    legacy_measure,
    object_summary,
    statistics,
)
from tests.support.davis_scores import GLOBAL_COLUMNS, HEADLINE, OBJECTS, STATISTICS
from tests.support.plain_metrics import assert_agrees, plain_f, plain_jaccard

# Masks


def blob(rng: np.random.Generator, height: int, width: int, *, smooth: float, share: float = 0.4) -> np.ndarray:
    """A random mask, bool [H, W], whose shapes are about `smooth` pixels wide."""
    noise = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), smooth).reshape(height, width)
    return noise >= np.quantile(noise, 1 - share)


def disc(height: int, width: int, y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def left_of(column: int, height: int, width: int) -> np.ndarray:
    """All pixels left of a column: the boundary is the column before it, in every row."""
    return np.broadcast_to(np.arange(width) < column, (height, width)).copy()


def single(height: int, width: int, y: int, x: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[y, x] = True
    return mask


def text_mask(*rows: str) -> np.ndarray:
    return np.array([[sign == "#" for sign in row] for row in rows])


def special_masks(height: int, width: int) -> dict[str, np.ndarray]:
    """Edge cases: nothing, everything, one pixel, stripes along each border."""
    empty = np.zeros((height, width), bool)
    masks = {"none": empty, "all": ~empty}
    for name, part in {
        "first pixel": np.s_[0, 0],
        "last pixel": np.s_[-1, -1],
        "upper right pixel": np.s_[0, -1],
        "lower left pixel": np.s_[-1, 0],
        "middle pixel": np.s_[height // 2, width // 2],
        "top": np.s_[0],
        "bottom": np.s_[-1],
        "left": np.s_[:, 0],
        "right": np.s_[:, -1],
    }.items():
        masks[name] = empty.copy()
        masks[name][part] = True
    return masks


SHAPES = st.one_of(
    st.tuples(st.just(2), st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.just(2), st.integers(1, 2), st.integers(120, 140)),  # radius 1 and 2
    st.tuples(st.just(2), st.integers(120, 140), st.integers(1, 2)),
)


# J and F against their plain definitions


@settings(max_examples=120, deadline=None, derandomize=True)
@given(arrays.arrays(bool, SHAPES))
def test_any_two_masks_score_as_defined(pair):
    assert_agrees(*pair)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(arrays.arrays(bool, SHAPES))
def test_scores_are_symmetric_shares_and_1_for_the_same_mask(pair):
    predicted, truth = pair
    for measure in (jaccard, boundary_f):
        assert 0 <= measure(predicted, truth) <= 1
        assert measure(predicted, truth) == measure(truth, predicted)
        assert measure(truth, truth) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (2, 2), (1, 9), (9, 1), (3, 5), (6, 4)], ids=str)
def test_special_masks_score_as_defined(size):
    masks = special_masks(*size).values()
    for predicted in masks:
        for truth in masks:
            assert_agrees(predicted, truth)


@pytest.mark.parametrize(
    "size", [(7, 7), (16, 16), (17, 31), (40, 60), (75, 100), (76, 100), (1, 400), (300, 2), (120, 214)], ids=str
)
@pytest.mark.parametrize("seed", range(4))
def test_random_blobs_score_as_defined(size, seed):
    rng = np.random.default_rng(seed)
    truth = blob(rng, *size, smooth=2 + seed)
    assert_agrees(blob(rng, *size, smooth=3, share=0.05 + 0.3 * seed), truth)
    assert_agrees(np.roll(truth, (1, -2), (0, 1)), truth)


@pytest.mark.parametrize("size", [(299, 401), (480, 854)], ids=str)
def test_full_size_masks_score_as_defined(size):
    height, width = size
    truth = disc(*size, height / 2, width / 2, height / 4)
    assert_agrees(disc(*size, height * 0.52, width * 0.49, height * 0.26) | disc(*size, 0, width, height / 8), truth)


def test_masks_that_are_views_score_as_defined():
    rng = np.random.default_rng(3)
    predicted, truth = (blob(rng, 40, 50, smooth=3) for _ in range(2))
    assert_agrees(predicted[::-1, ::2], truth[::-1, ::2])
    assert_agrees(predicted.T, truth.T)


# J and F by hand


def test_jaccard_by_hand():
    square, shifted = text_mask("##..", "##..", "...."), text_mask(".##.", ".##.", "....")
    assert jaccard(square, shifted) == 2 / 6
    assert jaccard(square, square) == 1
    assert jaccard(square, ~square) == 0
    nothing = np.zeros_like(square)
    assert jaccard(nothing, nothing) == 1
    assert jaccard(nothing, square) == jaccard(square, nothing) == 0


def test_boundary_by_hand():
    found = boundary(text_mask("......", "..##..", "..##..", "......"))
    np.testing.assert_array_equal(found, text_mask(".###..", ".#.#..", ".###..", "......"))


def test_boundary_along_the_last_row_and_column_by_hand():
    found = boundary(text_mask("...#", "...#", "....", "##.#"))
    np.testing.assert_array_equal(found, text_mask("..#.", "..##", "####", ".##."))


@pytest.mark.parametrize("size", [(5, 7), (1, 6), (6, 1), (1, 1)], ids=str)
def test_the_corner_is_never_a_boundary(size):
    found = boundary(single(*size, -1, -1))
    assert not found[-1, -1]
    assert np.count_nonzero(found) == (3 if min(size) > 1 else int(max(size) > 1))


@pytest.mark.parametrize(
    ("size", "radius"),
    [((1, 1), 1), ((75, 100), 1), ((76, 100), 2), ((150, 200), 2), ((300, 400), 4), ((300, 401), 5), ((480, 854), 8)],
    ids=str,
)
def test_boundaries_match_up_to_the_radius(size, radius):
    height, width = size
    if width == 1:
        assert boundary_f(np.ones(size, bool), np.zeros(size, bool)) == 1  # neither has a boundary
        return
    truth = left_of(20, height, width)
    for offset in (radius, -radius):
        assert boundary_f(left_of(20 + offset, height, width), truth) == 1
    for offset in (radius + 1, -radius - 1):
        assert boundary_f(left_of(20 + offset, height, width), truth) == 0


def test_boundaries_match_within_a_disk_not_a_square():
    truth = single(300, 400, 50, 50)  # its boundary is a square of 2 x 2, the radius is 4
    # Of the squares' corners that are 3 apart both ways, one is sqrt(18) from its nearest: 3 of 4 match.
    assert boundary_f(single(300, 400, 53, 53), truth) == 0.75
    assert boundary_f(single(300, 400, 47, 53), truth) == 0.75
    assert boundary_f(single(300, 400, 54, 50), truth) == 1
    assert boundary_f(single(300, 400, 55, 50), truth) == 0.5
    assert boundary_f(single(300, 400, 56, 50), truth) == 0


def test_f_weighs_precision_and_recall():
    truth, predicted = single(60, 60, 10, 10), single(60, 60, 10, 10) | single(60, 60, 40, 40)
    assert boundary_f(predicted, truth) == pytest.approx(2 * 0.5 / 1.5)  # half of ours match, all of theirs
    assert boundary_f(truth, predicted) == pytest.approx(2 * 0.5 / 1.5)


def test_f_without_boundaries():
    nothing, something = np.zeros((9, 9), bool), single(9, 9, 4, 4)
    assert boundary_f(nothing, nothing) == 1
    assert boundary_f(~nothing, ~nothing) == 1
    assert boundary_f(nothing, ~nothing) == 1  # a mask of the whole frame has no boundary either
    for mask in (nothing, ~nothing):
        assert boundary_f(mask, something) == boundary_f(something, mask) == 0


def test_frame_scores_are_those_of_each_object_alone():
    rng = np.random.default_rng(0)
    predicted, truth = (rng.choice(np.array([0, 1, 2, 200], np.uint8), (12, 15)) for _ in range(2))
    truth[truth == 2] = 0  # only the prediction has it
    scores = frame_scores(predicted, truth, [200, 1, 2, 7])
    assert list(scores) == [200, 1, 2, 7]
    for number, values in scores.items():
        ours, theirs = predicted == number, truth == number
        assert values == {"J": plain_jaccard(ours, theirs), "F": pytest.approx(plain_f(ours, theirs), abs=1e-12)}
    assert scores[2]["J"] == scores[2]["F"] == 0
    assert scores[7] == {"J": 1, "F": 1}  # neither has it
    assert frame_scores(predicted, truth, []) == {}


# Statistics


@pytest.mark.parametrize(
    ("values", "mean", "recall", "decay"),
    [
        ([0.7], 0.7, 1, 0),
        ([0.2], 0.2, 0, 0),
        ([0.9, 0.3], 0.6, 1 / 2, 0.9 - 0.3),  # bounds 0 0 1 1 1: [0.9] and [0.3]
        ([0.9, 0.5, 0.1], 0.5, 1 / 3, 0.7 - 0.1),  # bounds 0 1 1 2 2: [0.9 0.5] and [0.1]
        ([0.8, 0.6, 0.4, 0.1], 0.475, 1 / 2, 0.7 - 0.25),  # bounds 0 1 2 2 3: [0.8 0.6] and [0.4 0.1]
        ([1.0, 0.8, 0.6, 0.4, 0.0], 0.56, 3 / 5, 0.9 - 0.2),  # bounds 0 1 2 3 4: [1 0.8] and [0.4 0]
        # bounds 0 2 3 5 6, where 1 + 1.5 and 1 + 4.5 are rounded up: [1 0.9 0.5] and [0.6 0.2]
        ([1.0, 0.9, 0.5, 0.1, 0.3, 0.6, 0.2], 3.6 / 7, 3 / 7, 0.8 - 0.4),
        # an object that gets better has a negative decay; bounds 0 2 4 5 7: [0 0 0.3] and [0.9 1 1]
        ([0.0, 0.0, 0.3, 0.5, 0.6, 0.9, 1.0, 1.0], 0.5375, 4 / 8, 0.1 - 2.9 / 3),
    ],
    ids=lambda value: f"{len(value)}-frames" if isinstance(value, list) else "",
)
def test_statistics_by_hand(values, mean, recall, decay):
    assert statistics(values) == pytest.approx({"Mean": mean, "Recall": recall, "Decay": decay}, abs=1e-12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=120))
def test_statistics_of_any_length(values):
    last = len(values) - 1
    bounds = [(quarter * last + 2) // 4 for quarter in range(5)]  # quarters of 0 … last, a half rounded up
    ends = np.round(np.linspace(1, len(values), 5) + 1e-10) - 1
    assert bounds == ends.tolist()
    first, *_, final = (values[begin : end + 1] for begin, end in pairwise(bounds))
    wanted = {
        "Mean": math.fsum(values) / len(values),
        "Recall": sum(value > 0.5 for value in values) / len(values),
        "Decay": math.fsum(first) / len(first) - math.fsum(final) / len(final),
    }
    assert statistics(values) == pytest.approx(wanted, abs=1e-12)


def test_recall_counts_what_is_above_one_half():
    assert statistics([0.5, 0.5, 0.5000001, 0.49])["Recall"] == 1 / 4


def test_statistics_are_plain_numbers_that_json_can_hold():
    found = statistics(np.array([0.5, 0.75], np.float32))
    assert list(found) == list(STATISTICS)
    assert json.loads(json.dumps(found)) == {"Mean": 0.625, "Recall": 0.5, "Decay": -0.25}


def test_object_summary_leaves_out_the_last_frame():
    assert object_summary(OBJECTS[0]) == pytest.approx(
        {"J-Mean": 0.7, "J-Recall": 1, "J-Decay": 0.2, "F-Mean": 0.7, "F-Recall": 0.5, "F-Decay": 0.6}
    )
    assert object_summary({"J": [0.25, 1.0], "F": [0.75, 1.0]}) == {
        **{"J-Mean": 0.25, "J-Recall": 0, "J-Decay": 0},
        **{"F-Mean": 0.75, "F-Recall": 1, "F-Decay": 0},
    }


def test_davis_measure_is_the_mean_over_objects():
    found = davis_measure(OBJECTS)
    assert list(found) == GLOBAL_COLUMNS
    assert found == pytest.approx(HEADLINE)


def test_legacy_measure_pools_frames_and_objects_with_the_last_frame():
    j, f = (1.4 + 2.6 + 1.0) / 10, (1.6 + 2.5 + 1.0) / 10
    found = legacy_measure(OBJECTS)
    assert list(found) == ["J&F-Mean", "J-Mean", "F-Mean"]
    assert found == pytest.approx({"J&F-Mean": (j + f) / 2, "J-Mean": j, "F-Mean": f})


def test_the_measures_differ_where_they_should():
    same_length = [{"J": [0.5, 0.5, 1.0], "F": [0.5, 0.5, 1.0]}, {"J": [0.7, 0.7, 0.7], "F": [0.7, 0.7, 0.7]}]
    assert davis_measure(same_length)["J-Mean"] == pytest.approx(0.6)
    assert legacy_measure(same_length)["J-Mean"] == pytest.approx(4.1 / 6)


@pytest.mark.parity
@pytest.mark.parametrize("model", ["plain", "plain_compact", "momentum", "momentum_compact"])
def test_frame_scores_are_the_reference_ones(shared, model):
    with np.load(shared / "golden/sequence_car-shadow.npz") as golden:
        masks, predicted = golden["masks"], golden[f"predicted_{model}"]
        wanted = {measure: golden[f"{measure}_{model}"] for measure in "JF"}
    scores = [frame_scores(*pair, [1])[1] for pair in zip(predicted[1:], masks[1:], strict=True)]
    for measure in "JF":
        np.testing.assert_allclose([score[measure] for score in scores], wanted[measure], rtol=0, atol=1e-6)


def test_ious_by_hand():
    truth, predicted = np.array([[0, 0, 1, 1, 4]]), np.array([[0, 1, 1, 1, 1]])  # class 4 is none of four
    counts = confusion(predicted, truth, 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0] * 4, [0] * 4]
    np.testing.assert_allclose(class_ious(counts), [1 / 2, 2 / 3, np.nan, np.nan])
