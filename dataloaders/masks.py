"""Masks: images of object ids; a damaged or unsuitable file raises UserError."""

import io
import struct
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from dataloaders.files import read_bytes
from dataloaders.frames import reason
from dataloaders.mask_warnings import warn_of_blur, warn_of_palette, warn_once
from dataloaders.names import some
from utils.errors import UserError
from utils.palette import davis_palette

FORMATS = ("PNG", "BMP", "GIF", "TIFF")  # lossless formats; for some others Pillow runs programs
BLURRED = ("JPEG",)
GREY, COLOURED = ("1", "L", "LA", "I", "I;16", "I;16B"), ("RGB", "RGBA")  # Pillow's modes, beside P
MOST = 255  # objects
DEPTH = 8  # bits of a value, as Pillow scales grey values of fewer bits
SHOWN = 8  # objects or colours that are named


class Pixels(NamedTuple):
    """A decoded mask: values of pixels, 0 the background."""

    values: np.ndarray  # [H, W], unsigned: ids, or colours 0xRRGGBB
    coloured: bool
    palette: np.ndarray | None  # of an indexed image, RGB uint8 [256, 3]


def read_mask(path: Path, *, among: Iterable[Path] = ()) -> np.ndarray:
    """Read the ids of a mask, uint8 [H, W], rotated according to its EXIF orientation.

    Ids are the values of an indexed or grey image, as stored. In an RGB image every colour but black is an object: its
    id is that of the DAVIS palette if all colours are in it, else the colours are numbered in ascending order.
    among: all masks of the video, whose colours are numbered together; without them, other colours are refused.
    UserError also for a lossy format, ids above 255 and more than 255 colours. What is doubtful is told in a warning.
    """
    pixels = _decode(path)
    if pixels.coloured:
        ids = _number(path, pixels.values, among)
    elif (highest := pixels.values.max()) > MOST:
        raise UserError(f"{path}: has values up to {highest}, but ids are at most {MOST}; export it with 8 bits")
    else:
        ids = pixels.values.astype(np.uint8)
    if pixels.palette is not None:
        warn_of_palette(path, ids, pixels.palette)
    warn_of_blur(path, ids)
    return ids


def read_binary_mask(path: Path) -> np.ndarray:
    """Read a mask of one object, uint8 [H, W]: 1 where a pixel is not 0, black or transparent; UserError as above."""
    return (_decode(path).values > 0).astype(np.uint8)


def describe_ids(mask: np.ndarray) -> str:
    """Describe the objects of a mask [H, W] and the share of it that each covers, as "2 objects: 1 (4 %), 2 (1 %)"."""
    ids, counts = np.unique(mask[mask > 0], return_counts=True)
    if not len(ids):
        return "no objects"
    percents = [100 * count / mask.size for count in counts.tolist()]
    shares = ["<0.1" if share < 0.1 else f"{share:.1f}" if share < 0.95 else f"{share:.0f}" for share in percents]
    named = [f"{number} ({share} %)" for number, share in zip(ids.tolist(), shares, strict=True)]
    return f"{len(ids)} object{'s' * (len(ids) > 1)}: {some(named, SHOWN)}"


def _decode(path: Path) -> Pixels:
    """Read the values as stored; UserError if the image cannot be decoded or its kind does not preserve them."""
    data = read_bytes(path)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS + BLURRED) as image:
            mode, kind, bits, palette = image.mode, image.format or "", _bits(image, data), image.getpalette() or []
            pixels = np.array(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow raises many types for damaged files
        raise UserError(f"{path}: not a mask that can be decoded ({reason(error)}); replace the file") from error
    if kind in BLURRED:
        raise UserError(f"{path}: a mask must not be {kind}, which does not preserve ids; export it as PNG instead")
    shifted = kind == "BMP" and bits < DEPTH and mode == "L"  # Pillow takes pairs of values for one
    truncated = bits > DEPTH and mode in ("LA", *COLOURED)
    if mode not in ("P", *GREY, *COLOURED) or shifted or truncated:
        raise UserError(f"{path}: a mask of mode {mode} and {bits} bits cannot be read; export it as an indexed PNG")
    if mode in COLOURED:
        return Pixels(_packed(pixels), True, None)
    if mode == "P":
        return Pixels(pixels, False, np.array([*palette, *[0] * 768][:768], np.uint8).reshape(256, 3))
    if mode == "LA":
        pixels = np.where(pixels[..., 1] > 0, pixels[..., 0], 0)
    if mode == "L" and bits < DEPTH:
        pixels = pixels // (MOST // (2**bits - 1))
    return Pixels(pixels.astype(np.uint32) if mode.startswith("I") else pixels, False, None)


def _bits(image: Image.Image, data: bytes) -> int:
    """Return the bits of a value in the file."""
    if image.format == "PNG":
        return data[24]  # in IHDR, the first chunk
    if image.format == "BMP":
        return min(DEPTH, struct.unpack_from("<H", data, 28)[0])  # of a pixel, in the header
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(BITSPERSAMPLE, (1,)))
    return DEPTH


def _packed(pixels: np.ndarray) -> np.ndarray:
    """Return colours [..., 3] as 0xRRGGBB, uint32 [...]; with alpha [..., 4], 0 where they are transparent."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    colours = red << 16 | green << 8 | blue
    return colours if pixels.shape[-1] == 3 else np.where(pixels[..., 3] > 0, colours, 0)


def _number(path: Path, colours: np.ndarray, among: Iterable[Path]) -> np.ndarray:
    """Return the ids of a mask of colours [H, W], uint8 [H, W]."""
    own = set(np.unique(colours).tolist()) - {0}
    together = own.union(*(_colours_of(other) for other in among))
    if len(together) > MOST:
        raise UserError(
            f"{path}: has {len(together)} colours, but a colour is an object, and at most {MOST} are; save it without "
            "anti-aliasing and dithering, in a lossless format"
        )
    known = dict(zip(_packed(davis_palette()).tolist(), range(256), strict=True))
    ids = known if together <= known.keys() else {colour: 1 + i for i, colour in enumerate(sorted(together))}
    named = [f"#{colour:06x} is object {ids[colour]}" for colour in sorted(own)]
    if ids is not known and not among:
        raise UserError(
            f"{path}: has colours that the DAVIS palette lacks, so that ids would differ from frame to frame; "
            "export it as an indexed PNG"
        )
    warn_once(path, f"its colours are taken as objects: {some(named, SHOWN)}")
    codes = np.array(sorted({0, *own}), np.uint32)
    return np.array([0, *(ids[c] for c in codes.tolist()[1:])], np.uint8)[np.searchsorted(codes, colours)]


@lru_cache(maxsize=1024)
def _colours_of(path: Path) -> frozenset[int]:
    """Return the colours of a mask but black; none of an indexed or grey one."""
    pixels = _decode(path)
    return frozenset(np.unique(pixels.values).tolist()) - {0} if pixels.coloured else frozenset()
