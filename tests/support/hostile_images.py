"""Writers of damaged and unusual frames and masks."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.support.hostile import Maker
from tests.support.images import frame_pixels, mask_pixels, write_frame
from utils.visualize import write_mask

TURNED = 6  # EXIF's number for an image to be shown after a quarter turn
RGB = frame_pixels(0)[..., ::-1]


def saved(convert: Callable[[Image.Image], Image.Image] = lambda image: image, **settings: object) -> Maker:
    """A frame that Pillow writes."""
    return lambda path: convert(Image.fromarray(RGB)).save(path, **settings)


def turn(path: Path) -> None:
    """Mark an image as rotated by a quarter turn, by EXIF."""
    orientation = Image.Exif()
    orientation[0x0112] = TURNED
    with Image.open(path) as image:
        image.load()
        image.save(path, exif=orientation)


def write_deep_frame(path: Path) -> None:
    """A PNG of 16 bits a channel."""
    _, data = cv2.imencode(".png", frame_pixels(0).astype(np.uint16) * 257)
    path.write_bytes(data)


def write_wide_bomb(path: Path) -> None:
    """A small PNG of a gigapixel, the most that OpenCV accepts."""
    rows, columns = 32768, 32767

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", columns, rows, 1, 0, 0, 0, 0)
    squeezed = zlib.compress(bytes((columns // 8 + 2) * rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", squeezed) + chunk(b"IEND", b""))


def write_huge_chunk(path: Path) -> None:
    """A PNG with a text chunk that claims two gigabytes."""
    write_frame(path.with_suffix(".png"), frame_pixels(0))
    data = path.with_suffix(".png").read_bytes()
    path.with_suffix(".png").unlink()
    path.write_bytes(data[:33] + struct.pack(">I", 2**31 - 16) + b"tEXt" + data[33:])


def resized(folder: Path, size: tuple[int, int], frames: str, masks: str) -> None:
    """All frames and masks below a folder at another size."""
    for path in sorted(folder.glob(frames)):
        write_frame(path, frame_pixels(int(path.stem), size))
    for path in sorted(folder.glob(masks)):
        write_mask(path, np.full(size, 1, np.uint8))


def mask_of(ids: np.ndarray) -> Maker:
    return lambda path: write_mask(path, ids.astype(np.uint8))


def write_jpeg_mask(path: Path) -> None:
    """A mask as JPEG, which blurs ids."""
    Image.fromarray(mask_pixels(0, (40, 200))).save(path, format="JPEG")


def write_postscript(path: Path) -> None:
    """A PostScript program, which Pillow would run by Ghostscript."""
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\nshowpage\n%%EOF\n")
