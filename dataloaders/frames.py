"""Frames of a video in a folder of images; a damaged or unsuitable file raises UserError."""

import io
import os
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from dataloaders.files import read_bytes
from dataloaders.names import natural_key, some, visible
from utils.errors import UserError, warn

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
OTHER_IMAGES = (  # left out, with a warning: animations, and what OpenCV does not decode everywhere
    *(".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".jpe", ".jfif", ".ppm", ".pgm", ".tga", ".exr", ".dng"),
)
COPY = re.compile(r"(.+?)[ _-]*(\((\d+|copy|another copy)\)|[ _-]copy( ?\(?\d+\)?)?)", re.IGNORECASE)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # their headers are checked before decoding
UNDECODABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # raised by Pillow
END_MARKERS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}  # last bytes of a JPEG or PNG, by first bytes


def read_frame(path: Path) -> np.ndarray:
    """Read a frame with OpenCV, BGR uint8 [H, W, 3]; UserError if it is not a complete image.

    It is rotated according to its EXIF orientation, as in viewers and annotation tools.
    """
    data = read_bytes(path)
    _require_sane_header(path, data)
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # the header claims more pixels than OpenCV accepts
        frame = None
    if frame is None:
        raise UserError(f"{path}: not an image that can be decoded ({len(data)} bytes); replace the file")
    if not data.endswith(END_MARKERS.get(data[:2], b"")):  # OpenCV refuses other formats if truncated
        _require_whole(path, data)
    return frame


def read_frames(paths: Iterable[Path]) -> Iterator[np.ndarray]:
    """Yield frames, BGR uint8 [H, W, 3]; UserError unless all have the size of the first one."""
    size = None
    for path in paths:
        frame = read_frame(path)
        size = size or frame.shape[:2]
        require_size(path, frame, size)
        yield frame


def read_squeezed(paths: Iterable[Path], size: int) -> Iterator[np.ndarray]:
    """Yield frames as `read_frames`, resized to size × size; their aspect ratio is not kept."""
    return (cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR) for frame in read_frames(paths))


def list_frames(folder: Path, but: Iterable[Path] = ()) -> list[Path]:
    """List the frames of a folder in the natural order of their names (`natural_key`); but: files to exclude.

    UserError if there are none, if two have the same number, or if one is a copy of another one.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder of frames")
    excluded = {path.resolve() for path in but}
    images = [path for path in visible(folder) if not (excluded and path.resolve() in excluded)]
    frames = [path for path in images if path.suffix.lower() in FRAME_SUFFIXES]
    if others := sorted(path.name for path in images if path.suffix.lower() in OTHER_IMAGES):
        warn(f"{folder}: {len(others)} images beside {len(frames)} frames are left out ({some(others)}); convert them")
    if not frames:
        raise UserError(f"{folder}: contains no frames ({', '.join(FRAME_SUFFIXES)})")
    key = natural_key(path.stem for path in frames)
    frames.sort(key=lambda path: (key(path.stem), path.name))
    for frame, following in pairwise(frames):
        if key(frame.stem) == key(following.stem):
            raise UserError(f"{frame} and {following.name}: two frames with the same number; remove one of them")
    _require_no_copy(frames)
    return frames


def _require_no_copy(frames: list[Path]) -> None:
    """Raise UserError if one of these files is named as a file manager names copies of another one."""
    originals = {path.stem: path.name for path in frames}
    for path in frames:
        if (copy := COPY.fullmatch(path.stem)) and copy[1] in originals:
            raise UserError(f"{path}: is named as a copy of {originals[copy[1]]}; remove it, or rename it to a number")


def require_size(path: Path, image: np.ndarray, size: tuple[int, int]) -> None:
    """Raise UserError unless an image [H, W, …] has the frames' size (height, width)."""
    if image.shape[:2] != size:
        actual, expected = (f"{width}x{height}" for height, width in (image.shape[:2], size))
        raise UserError(f"{path}: is {actual}, but its sequence's frames are {expected}; all must have the same size")


def reason(error: Exception) -> str:
    """Describe why Pillow could not decode an image."""
    if isinstance(error, UnidentifiedImageError):  # its text contains the name of a Python object
        return "unknown format"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _require_sane_header(path: Path, data: bytes) -> None:
    """Raise UserError if the header claims too many pixels: OpenCV would allocate them, Pillow has a limit."""
    try:
        Image.open(io.BytesIO(data), formats=FORMATS).close()
    except UnidentifiedImageError:  # left to OpenCV, which decodes more formats
        return
    except UNDECODABLE as error:
        raise UserError(f"{path}: the image is damaged ({reason(error)}); replace the file") from error


def _require_whole(path: Path, data: bytes) -> None:
    """Raise UserError if an image is truncated, which only Pillow detects; OpenCV fills the rest with grey."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
    except UNDECODABLE as error:
        raise UserError(f"{path}: the image is damaged ({reason(error)}); replace the file") from error
