"""Small frames and masks."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIZE = (24, 32)  # height, width
SQUARE = 8  # the side of an object


def frame_pixels(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A BGR frame, uint8 [H, W, 3]: two bright squares that move over a smooth background."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    frame = np.stack([40 + 3 * rows, 60 + 2 * columns, 90 + rows + columns], axis=2).astype(np.uint8)
    for number, colour in ((1, (30, 220, 250)), (2, (240, 60, 20))):
        frame[mask_pixels(index, (1, 2), size) == number] = colour
    return frame


def mask_pixels(index: int, objects: tuple[int, ...] = (1,), size: tuple[int, int] = SIZE) -> np.ndarray:
    """The ids of a frame's objects, at most two, uint8 [H, W]."""
    mask = np.zeros(size, np.uint8)
    corners = ((4, 4 + 2 * index), (13, 18 - 2 * index))
    for number, (top, left) in zip(objects, corners, strict=False):
        mask[top : top + SQUARE, left : left + SQUARE] = number
    return mask


def write_frame(path: Path, pixels: np.ndarray) -> None:
    """Write a frame in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), pixels):
        raise OSError(f"{path} could not be written")


def become_rgb(path: Path) -> None:
    """Convert an indexed image to RGB."""
    Image.open(path).convert("RGB").save(path)


def become_16_bit(path: Path) -> None:
    Image.fromarray(np.array(Image.open(path)).astype(np.uint16)).save(path)


def read_pixels(path: Path) -> np.ndarray:
    """An image's stored values."""
    with Image.open(path) as image:
        return np.array(image)


def write_huge_header(path: Path, side: int) -> None:
    """Make a PNG claim to be this wide and high, with a valid checksum."""
    data = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
