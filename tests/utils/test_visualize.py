"""The palette, mask files and overlays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from dataloaders.masks import read_mask
from utils.visualize import davis_palette, overlay, write_mask

UNSPECIFIED = 2  # H.264's number for unspecified colours


# The palette and the masks


EVERY_ID = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    "mask",
    [
        EVERY_ID,
        EVERY_ID[::-1, 1::2],  # a view
        EVERY_ID.T,
        np.zeros((5, 7), np.uint8),
        np.array([[0, 1], [1, 0]], np.uint8),  # few ids: no fewer bits or colours
        np.array([[255]], np.uint8),
        np.tile(np.array([0, 1, 2, 254], np.uint8), (3, 33))[:, :131],
    ],
    ids=["every-id", "view", "transposed", "empty", "two-ids", "one-pixel", "odd-width"],
)
def test_masks_come_back_as_written(mask, tmp_path):
    before = mask.copy()
    write_mask(tmp_path / "00000.png", mask)
    np.testing.assert_array_equal(mask, before)
    with Image.open(tmp_path / "00000.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "P", mask.shape[::-1])
        assert image.getpalette() == davis_palette().ravel().tolist()
        np.testing.assert_array_equal(np.array(image), mask)
        np.testing.assert_array_equal(np.array(image.convert("RGB")), davis_palette()[mask])
    np.testing.assert_array_equal(read_mask(tmp_path / "00000.png"), mask)


def test_a_mask_replaces_an_earlier_one(tmp_path):
    for number in (1, 2):
        write_mask(tmp_path / "00000.png", np.full((4, 4), number, np.uint8))
    assert (read_mask(tmp_path / "00000.png") == 2).all()


# Overlays


def border_of(mask: np.ndarray) -> np.ndarray:
    """Pixels beside, above or below which is another id, bool [H, W]."""
    height, width = mask.shape
    found = np.zeros(mask.shape, bool)
    for y in range(height):
        for x in range(width):
            beside = [(y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)]
            found[y, x] = any(0 <= v < height and 0 <= u < width and mask[v, u] != mask[y, x] for v, u in beside)
    return found


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The largest difference of a channel."""
    return np.abs(one.astype(int) - other).max(-1)


def assert_overlay(frame: np.ndarray, mask: np.ndarray) -> None:
    """Assert that an overlay without ids is right at every pixel and that its arguments are unchanged."""
    before = frame.copy(), mask.copy()
    picture = overlay(frame, mask)
    np.testing.assert_array_equal(frame, before[0])
    np.testing.assert_array_equal(mask, before[1])
    assert (picture.shape, picture.dtype) == (frame.shape, np.uint8)
    outline = border_of(mask) & (mask > 0)
    inside, rgb, colours = ~outline & (mask > 0), frame[..., ::-1], davis_palette()[mask]
    np.testing.assert_array_equal(picture[mask == 0], rgb[mask == 0])
    halfway = (rgb[inside].astype(float) + colours[inside]) / 2
    np.testing.assert_allclose(picture[inside], halfway, rtol=0, atol=1)
    assert (distance(picture, rgb)[outline] >= 96).all()
    of_the_object = (picture == colours).all(-1)[outline]
    assert (of_the_object == (distance(colours, rgb)[outline] >= 96)).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_overlays_of_any_frame_and_mask(data):
    """The frames are too small for ids."""
    size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    frame = data.draw(arrays.arrays(np.uint8, (*size, 3)))
    assert_overlay(frame, data.draw(arrays.arrays(np.uint8, size, elements=st.sampled_from([0, 0, 1, 2, 255]))))


def test_overlay_by_hand():
    frame = np.full((5, 5, 3), (200, 100, 50), np.uint8)  # blue, green, red
    mask = np.zeros((5, 5), np.uint8)
    mask[1:, 1:4] = 1
    picture = overlay(frame, mask)
    plain, red, blend = (50, 100, 200), (128, 0, 0), (89, 50, 100)
    assert [[tuple(pixel) for pixel in row] for row in picture.tolist()] == [
        [plain, plain, plain, plain, plain],
        [plain, red, red, red, plain],
        [plain, red, blend, red, plain],
        [plain, red, blend, red, plain],
        [plain, red, blend, red, plain],
    ]


@pytest.mark.parametrize("number", [1, 2, 8, 42, 255])
@pytest.mark.parametrize("level", [0, 128, 255, "its colour"])
def test_objects_are_seen_on_frames_of_any_colour(number, level):
    """A square and a line one pixel wide; also the object's own colour as the frame."""
    frame = np.zeros((120, 160, 3), np.uint8)
    frame[:] = davis_palette()[number][::-1] if level == "its colour" else level
    mask = np.zeros((120, 160), np.uint8)
    mask[40:100, 20:100] = mask[10, 20:140] = number
    picture = overlay(frame, mask)
    outline = border_of(mask) & (mask > 0)
    assert (distance(picture, frame[..., ::-1])[outline] >= 96).all()


def label_of(mask: np.ndarray) -> np.ndarray:
    """Where an overlay on grey bears white text, bool [H, W]."""
    return (overlay(np.full((*mask.shape, 3), 100, np.uint8), mask) > 230).all(-1)


def test_ids_are_written_on_large_objects_and_beside_small_ones():
    mask = np.zeros((480, 640), np.uint8)
    mask[100:300, 100:300] = 1
    mask[400:404, 400:404] = 11
    mask[476:, 636:] = 12  # in a corner
    rows, columns = np.nonzero(label_of(np.where(mask == 1, mask, 0)))
    assert len(rows)
    assert 150 < rows.mean() < 250
    assert 150 < columns.mean() < 250
    for number in (11, 12):
        found = label_of(np.where(mask == number, mask, 0))
        rows, columns = np.nonzero(mask == number)
        text = np.argwhere(found & (mask != number))
        assert len(text)
        assert (np.abs(text - (rows.mean(), columns.mean())) < 50).all()


def test_no_id_hides_a_small_object():
    mask = np.zeros((480, 640), np.uint8)
    for number in range(1, 200):
        y, x = divmod(number, 20)
        mask[20 + 12 * y : 22 + 12 * y, 20 + 12 * x : 22 + 12 * x] = number
    frame = np.full((480, 640, 3), 60, np.uint8)
    picture = overlay(frame, mask)
    assert (distance(picture, frame[..., ::-1])[mask > 0] >= 96).all()


def test_pixels_away_from_objects_are_the_frames():
    frame = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    mask = np.zeros((240, 320), np.uint8)
    mask[100:110, 100:110] = 3
    far = np.ones(mask.shape, bool)
    far[70:140, 70:140] = False
    np.testing.assert_array_equal(overlay(frame, mask)[far], frame[far][:, ::-1])


def test_overlay_of_nothing_is_the_frame_and_of_everything_has_no_outline():
    frame = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    np.testing.assert_array_equal(overlay(frame, np.zeros((6, 7), np.uint8)), frame[..., ::-1])
    everything = overlay(np.full((6, 7, 3), 255, np.uint8), np.full((6, 7), 2, np.uint8))
    np.testing.assert_array_equal(everything, np.broadcast_to((127, 191, 127), (6, 7, 3)))


def test_overlay_does_not_share_the_frames_memory():
    frame = np.full((6, 7, 3), 9, np.uint8)
    overlay(frame, np.zeros((6, 7), np.uint8))[:] = 0
    assert (frame == 9).all()
