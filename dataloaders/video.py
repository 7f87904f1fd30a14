"""Reading of frames, masks and videos; a damaged or unsuitable file raises UserError."""

import io
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dataloaders.files import read_bytes, read_text, require_plain
from utils.errors import UserError

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_RATE, USUAL_RATE = 1000, 24  # frames per second; the latter if a video has no valid rate
FRAME_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # their headers are checked before decoding
MASK_FORMATS = ("PNG", "BMP", "GIF", "TIFF")  # lossless formats; for some others Pillow runs programs
BLURRED = ("JPEG",)
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
    if not data.endswith(END_MARKERS.get(data[:2], b"")):
        _require_whole(path, data)
    return frame


def read_mask(path: Path) -> np.ndarray:
    """Read the ids of a mask, uint8 [H, W], rotated according to its EXIF orientation.

    UserError unless it is an indexed or 8-bit grey image in a lossless format.
    """
    data = read_bytes(path)
    try:
        with Image.open(io.BytesIO(data), formats=MASK_FORMATS + BLURRED) as image:
            mode, kind = image.mode, image.format
            ids = np.array(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow raises many types for damaged files
        raise UserError(f"{path}: not a mask that can be decoded ({_reason(error)}); replace the file") from error
    if kind in BLURRED:
        raise UserError(f"{path}: a mask must not be {kind}, which does not preserve ids; export it as PNG instead")
    if mode not in ("P", "L", "1"):
        raise UserError(f"{path}: a mask must be an indexed or 8-bit grey image of object ids, not {mode}; convert it")
    return ids.astype(np.uint8)


def list_frames(folder: Path, but: Iterable[Path] = ()) -> list[Path]:
    """List the frames of a folder in the order of their numbers; but: files to exclude. UserError if there are none."""
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder of frames")
    excluded = {path.resolve() for path in but}
    frames = [path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES]
    frames = [path for path in frames if path.resolve() not in excluded] if excluded else frames
    if not frames:
        raise UserError(f"{folder}: contains no frames ({', '.join(FRAME_SUFFIXES)})")
    frames = in_order(frames)
    for frame, following in pairwise(frames):
        if frame.stem == following.stem:
            raise UserError(f"{frame} and {following.name}: two frames with the same number; remove one of them")
    return frames


def read_frames(paths: Iterable[Path]) -> Iterator[np.ndarray]:
    """Yield frames, BGR uint8 [H, W, 3]; UserError unless all have the size of the first one."""
    size = None
    for path in paths:
        frame = read_frame(path)
        size = size or frame.shape[:2]
        require_size(path, frame, size)
        yield frame


def require_size(path: Path, image: np.ndarray, size: tuple[int, int]) -> None:
    """Raise UserError unless an image [H, W, …] has the frames' size (height, width)."""
    if image.shape[:2] != size:
        actual, expected = (f"{width}x{height}" for height, width in (image.shape[:2], size))
        raise UserError(f"{path}: is {actual}, but its sequence's frames are {expected}; all must have the same size")


def read_squeezed(paths: Iterable[Path], size: int) -> Iterator[np.ndarray]:
    """Yield frames as `read_frames`, resized to size × size; their aspect ratio is not kept."""
    return (cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR) for frame in read_frames(paths))


def choose(listed: list[str], names: list[str] | None, where: Path) -> list[str]:
    """Return the listed videos, or those of `names`; UserError if one of `names` is not listed in the file `where`."""
    if unknown := [name for name in names or [] if name not in listed]:
        raise UserError(f"--videos {','.join(unknown)}: not in {where}")
    return [name for name in listed if names is None or name in names]


def read_video(path: Path) -> tuple[Iterator[np.ndarray], tuple[int, int], int | None, Fraction]:
    """Open a video file: frames, BGR uint8 [H, W, 3]; (height, width); their number according to the file; frame rate.

    UserError if OpenCV cannot decode a frame of it.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such video file or folder of frames")
    capture = cv2.VideoCapture(str(path))
    success, first = capture.read()
    if not success:
        raise UserError(f"{path}: OpenCV decodes no frame of it; convert it, or pass a folder of its frames")
    count, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)

    def frames() -> Iterator[np.ndarray]:
        yield first
        while (result := capture.read())[0]:
            yield result[1]
        capture.release()

    rate = Fraction(fps).limit_denominator(1001) if 0 < fps <= MAX_RATE else Fraction(0)  # also 0 if almost 0
    return frames(), first.shape[:2], int(count) if count > 0 else None, rate or Fraction(USUAL_RATE)


def read_list(path: Path, *, way_out: str) -> list[str]:
    """Read the lines of a list of videos, without duplicates; each must be the plain name of a folder."""
    lines = read_text(path, way_out=way_out).splitlines()
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise UserError(f"{path}: the list of sequences is empty")
    for name in names:
        require_plain(path, name)
    return names


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Sort by number, so that 2 comes before 10, with or without zero padding."""
    return sorted(paths, key=lambda path: (len(path.stem), path.stem))


def _require_sane_header(path: Path, data: bytes) -> None:
    """Raise UserError if the header claims too many pixels: OpenCV would allocate them, Pillow has a limit."""
    try:
        Image.open(io.BytesIO(data), formats=FRAME_FORMATS).close()
    except UnidentifiedImageError:  # left to OpenCV, which decodes more formats
        return
    except UNDECODABLE as error:
        raise UserError(f"{path}: the image is damaged ({_reason(error)}); replace the file") from error


def _require_whole(path: Path, data: bytes) -> None:
    """Raise UserError if an image is truncated, which only Pillow detects; OpenCV fills the rest with grey."""
    try:
        with Image.open(io.BytesIO(data), formats=FRAME_FORMATS) as image:
            image.load()
    except UNDECODABLE as error:
        raise UserError(f"{path}: the image is damaged ({_reason(error)}); replace the file") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its text contains the name of a Python object
        return "unknown format"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
