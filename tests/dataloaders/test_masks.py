"""Reading masks: which ids they have, and what is refused or doubtful."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataloaders.masks import read_mask
from tests.support.images import mask_pixels
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


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_mask_of_another_kind_is_refused(tmp_path, mode):
    path = tmp_path / "mask.png"
    image = Image.fromarray(IDS.astype(np.uint16)) if mode == "I;16" else Image.fromarray(IDS).convert(mode)
    image.save(path)
    with pytest.raises(UserError, match=mode) as error:
        read_mask(path)
    assert str(path) in str(error.value)


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
