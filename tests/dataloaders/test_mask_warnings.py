"""Warnings of masks whose ids were probably not meant; no true mask is among them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dataloaders.mask_warnings import mixed_ids
from dataloaders.masks import read_mask
from tests.support.images import mask_pixels
from utils.palette import davis_palette
from utils.visualize import write_mask

SIZE = (96, 128)


def scene(scale: int = 1) -> np.ndarray:
    """An ellipse and a rectangle, ids 1 and 2."""
    mask = np.zeros((SIZE[0] * scale, SIZE[1] * scale), np.uint8)
    cv2.ellipse(mask, (40 * scale, 48 * scale), (28 * scale, 36 * scale), 0, 0, 360, 1, -1)
    mask[33 * scale : 70 * scale, 90 * scale + 1 : 115 * scale] = 2
    return mask


def coloured(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(davis_palette()[mask])


SMOOTH = coloured(scene(4)).resize(SIZE[::-1], Image.Resampling.BOX)
BLURRED = {
    "anti-aliased grey": SMOOTH.convert("L"),
    "anti-aliased black and white": Image.fromarray((scene(4) > 0) * np.uint8(255)).resize(
        SIZE[::-1], Image.Resampling.BOX
    ),
    "anti-aliased with a palette": SMOOTH.quantize(64),
    "interpolated ids": Image.fromarray(cv2.resize(scene() * np.uint8(4), None, fx=1.5, fy=1.5)),
    "dithered": coloured(scene()).convert("P"),
    "one object dithered": coloured(np.minimum(scene(), 1)).convert("P"),
}


@pytest.mark.parametrize("label", BLURRED)
def test_mask_of_mixed_pixels(tmp_path, capsys, label):
    BLURRED[label].save(tmp_path / "mask.png")
    read_mask(tmp_path / "mask.png")
    assert "objects are scattered pixels" in capsys.readouterr().err


def tiny_objects() -> np.ndarray:
    """80 objects of one to four pixels in every form."""
    mask = np.zeros(SIZE, np.uint8)
    forms = ([1], [1, 1], [[1], [1]], [[1, 1], [1, 0]], [[1, 0], [0, 1]], [1, 1, 1], [[1], [1], [1]], [[1, 1], [1, 1]])
    for number in range(1, 81):
        form = np.atleast_2d(forms[number % len(forms)]).astype(np.uint8)
        top, left = 8 * (number // 12) + 3, 10 * (number % 12) + 2
        mask[top : top + form.shape[0], left : left + form.shape[1]] = form * number
    return mask


def sticks() -> np.ndarray:
    """Lines of one pixel's width."""
    mask = np.zeros(SIZE, np.uint8)
    for number in range(1, 20):
        cv2.line(mask, (6 * number, 5), (6 * number + 3, 90), number, 1)
    return mask


TRUE = {
    "ellipse and rectangle": scene(),
    "tiny objects": tiny_objects(),
    "sticks": sticks(),
    "every pixel its own": np.arange(SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8),
    "stripes": np.indices(SIZE)[1].astype(np.uint8),
    "one pixel": np.ones((1, 1), np.uint8),
    "one row": np.arange(20, dtype=np.uint8)[None],
    "nothing": np.zeros(SIZE, np.uint8),
}


@pytest.mark.parametrize("label", TRUE)
def test_true_objects_are_none_of_them(label):
    assert mixed_ids(TRUE[label]) == []


def test_no_true_mask_is_doubted(shared, capsys):
    paths = [path for folder in ("davis", "eval", "osvos") for path in (shared / folder).rglob("*.png")]
    paths = [path for path in paths if "JPEGImages" not in path.parts]
    for path in paths:
        read_mask(path)
    assert len(paths) > 700
    assert capsys.readouterr().err == ""


def write_indexed(path: Path, ids: np.ndarray, *colours: int | tuple[int, int, int]) -> Path:
    """An indexed mask with these colours, or DAVIS' colours of these ids."""
    image = Image.fromarray(ids)
    rgb = [davis_palette()[colour] if isinstance(colour, int) else colour for colour in colours]
    image.putpalette(np.array(rgb, np.uint8).tobytes())
    image.save(path)
    return path


GREYS = [(0, 0, 0), (128, 128, 128), (255, 255, 255)]


@pytest.mark.parametrize(
    ("colours", "told"),
    [
        ((0, 1, 2), ""),
        ((0, 2, 1), "1 in that of 2, 2 in that of 1"),
        ((2, 0, 1), "0 in that of 2, 1 in that of 0"),
        (((255, 255, 255), 0, (255, 0, 0)), "1 in that of 0"),
        ((0, (255, 0, 0), 1), ""),
        (GREYS, ""),
        (GREYS[::-1], "2 in that of 0"),
    ],
)
def test_palette_in_another_order(tmp_path, capsys, colours, told):
    """Ids are the indices, as in the official tools."""
    path = write_indexed(tmp_path / "mask.png", mask_pixels(0, (1, 2)), *colours)
    np.testing.assert_array_equal(read_mask(path), mask_pixels(0, (1, 2)))
    error = capsys.readouterr().err
    assert error == "" if not told else told in error


def test_a_folder_is_warned_of_once(tmp_path, capsys):
    for index in range(3):
        write_indexed(tmp_path / f"{index}.png", mask_pixels(index, (1, 2)), 0, 2, 1)
        read_mask(tmp_path / f"{index}.png")
    write_mask(tmp_path / "right.png", mask_pixels(0, (1, 2)))
    read_mask(tmp_path / "right.png")
    (tmp_path / "other").mkdir()
    read_mask(write_indexed(tmp_path / "other" / "0.png", mask_pixels(0, (1, 2)), 0, 2, 1))
    assert capsys.readouterr().err.count("warning: ") == 2
