"""Reading masks: which ids they have, and what is refused or doubtful."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dataloaders.masks import describe_ids, read_binary_mask, read_mask
from tests.support.images import mask_pixels
from tests.support.low_bits import grey_png, grey_tiff
from utils.errors import UserError
from utils.palette import davis_palette
from utils.visualize import write_mask

IDS = mask_pixels(0, (1, 2))


def save_indexed(path: Path, **settings: object) -> None:
    image = Image.fromarray(IDS)
    image.putpalette(davis_palette().tobytes())
    image.save(path, **settings)


MASKS: dict[str, tuple[Callable[[Path], object], np.ndarray]] = {
    "indexed": (lambda path: write_mask(path, IDS), IDS),
    "indexed with 2 bits": (lambda path: save_indexed(path, bits=2), IDS),
    "indexed with a transparent background": (lambda path: save_indexed(path, transparency=0), IDS),
    "indexed with all ids": (
        lambda path: write_mask(path, np.arange(256, dtype=np.uint8).reshape(8, 32)),
        np.arange(256).reshape(8, 32),
    ),
    "grey": (lambda path: Image.fromarray(IDS).save(path), IDS),
    "grey with 255": (lambda path: Image.fromarray((IDS > 0) * np.uint8(255)).save(path), (IDS > 0) * 255),
    "black and white": (lambda path: Image.fromarray(IDS > 0).save(path), IDS > 0),
}


@pytest.mark.parametrize("label", MASKS)
def test_mask_is_its_ids(tmp_path, label):
    save, ids = MASKS[label]
    save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, ids)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_values_of_any_bits_are_ids(tmp_path, kind, bits):
    """Pillow scales those of 2 and 4 bits, so that 1 and 2 would become 17 and 34."""
    ids = np.minimum(IDS, min(2**bits - 1, 255))
    (tmp_path / "mask").write_bytes((grey_png if kind == "PNG" else grey_tiff)(ids, bits))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask"), ids)


def test_grey_mask_with_alpha(tmp_path):
    """Transparent pixels are background."""
    alpha = np.full_like(IDS, 255)
    alpha[:10] = 0
    Image.fromarray(np.dstack((IDS, alpha))).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), np.where(alpha, IDS, 0))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_of_the_davis_palette_are_its_ids(tmp_path, mode, capsys):
    ids = mask_pixels(0, (2, 200))
    rgb = davis_palette()[ids]
    alpha = np.where(ids > 0, 255, 0).astype(np.uint8)
    rgba = np.dstack((rgb + np.where(ids == 0, 77, 0)[..., None].astype(np.uint8), alpha))
    Image.fromarray(rgb if mode == "RGB" else rgba).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), ids)
    assert "#008000 is object 2" in capsys.readouterr().err


def write_colours(path: Path, *colours: tuple[int, int, int]) -> Path:
    """A mask of squares of these colours."""
    Image.fromarray(np.array([(0, 0, 0), *colours], np.uint8)[mask_pixels(0, tuple(range(1, 1 + len(colours))))]).save(
        path
    )
    return path


def test_other_colours_are_numbered_over_all_masks_of_a_video(tmp_path, capsys):
    """Without the other masks an object's number would differ from mask to mask."""
    first = write_colours(tmp_path / "first.png", (255, 0, 0), (0, 255, 0))
    later = write_colours(tmp_path / "later.png", (255, 0, 0), (0, 0, 255))
    among = (first, later)
    np.testing.assert_array_equal(read_mask(first, among=among), mask_pixels(0, (3, 2)))
    np.testing.assert_array_equal(read_mask(later, among=among), mask_pixels(0, (3, 1)))
    np.testing.assert_array_equal(read_mask(later, among=[later]), mask_pixels(0, (2, 1)))
    assert "#0000ff is object 1, #ff0000 is object 3" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"later\.png.*DAVIS palette lacks"):
        read_mask(later)


def test_a_photograph_is_no_mask(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=r"has 76\d colours.*anti-aliasing"):
        read_mask(tmp_path / "mask.png")


def save_deep_colours(path: Path) -> None:
    cv2.imwrite(str(path), np.dstack([IDS] * 3).astype(np.uint16))


REFUSED = {
    "16 bits": (lambda path: Image.fromarray(IDS.astype(np.uint16) * 257).save(path), "up to 514"),
    "16 bits a colour": (save_deep_colours, "RGB and 16 bits"),
    "fractions": (lambda path: Image.fromarray(IDS.astype(np.float32)).save(path, format="TIFF"), "mode F"),
    "CMYK": (lambda path: Image.fromarray(IDS).convert("CMYK").save(path, format="TIFF"), "mode CMYK"),
    "JPEG": (lambda path: Image.fromarray(IDS).save(path, format="JPEG"), "JPEG"),
}


@pytest.mark.parametrize("label", REFUSED)
def test_mask_of_another_kind_is_refused(tmp_path, label):
    save, told = REFUSED[label]
    save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=rf"mask\.png.*{told}"):
        read_mask(tmp_path / "mask.png")


@pytest.mark.parametrize("label", ["grey", "colours", "16 bits", "blurred"])
def test_binary_mask_is_all_that_is_not_background(tmp_path, label, capsys):
    images = {
        "grey": IDS,
        "colours": davis_palette()[IDS] // 2,
        "16 bits": IDS.astype(np.uint16) * 257,
        "blurred": cv2.blur(IDS * np.uint8(100), (3, 3)),
    }
    Image.fromarray(images[label]).save(tmp_path / "mask.png")
    expected = images[label].astype(int).reshape(*IDS.shape, -1).sum(2) > 0
    np.testing.assert_array_equal(read_binary_mask(tmp_path / "mask.png"), expected)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (np.zeros((5, 5), np.uint8), "no objects"),
        (np.array([[0, 0], [0, 7]], np.uint8), "1 object: 7 (25 %)"),
        (np.repeat(np.array([0, 1, 2], np.uint8), [950, 46, 4]), "2 objects: 1 (5 %), 2 (0.4 %)"),
        (np.repeat(np.array([0, 1], np.uint8), [99_999, 1]), "1 object: 1 (<0.1 %)"),
        (np.arange(1, 11, dtype=np.uint8), "10 objects: " + ", ".join(f"{i} (10 %)" for i in range(1, 9)) + ", …"),
    ],
)
def test_objects_are_described(ids, told):
    assert describe_ids(ids) == told


def test_mask_cut_anywhere_is_whole_or_refused(tmp_path):
    """Bytes after the pixels may be missing."""
    path = tmp_path / "mask.png"
    write_mask(path, IDS)
    data = path.read_bytes()
    refused = 0
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            np.testing.assert_array_equal(read_mask(path), IDS)
        except UserError:
            refused += 1
    assert refused > 0.9 * len(data)
