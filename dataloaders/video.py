"""Frames and masks read from files, and refused in words when they are not what they should be."""

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
MAX_RATE, USUAL_RATE = 1000, 24  # frames a second; where a file names an impossible rate, the usual one
FRAME_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # whose headers are looked at before they are decoded
MASK_FORMATS = ("PNG", "BMP", "GIF", "TIFF")  # those that keep every id; Pillow would run programs for some others
BLURRED = ("JPEG",)
UNDECODABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises for bad files
END_MARKERS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}  # how a whole JPEG or PNG ends, by how it begins


def read_frame(path: Path) -> np.ndarray:
    """A frame as OpenCV decodes it, BGR uint8 [H, W, 3]; UserError if it is not a whole image.

    One whose EXIF says so is turned, as viewers and annotation tools show it: masks are drawn on what is seen.
    """
    data = read_bytes(path)
    _require_sane_header(path, data)
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # a header that claims more pixels than OpenCV takes
        frame = None
    if frame is None:
        raise UserError(f"{path}: not an image that can be decoded ({len(data)} bytes); replace the file")
    if not data.endswith(END_MARKERS.get(data[:2], b"")):
        _require_whole(path, data)
    return frame


def read_mask(path: Path) -> np.ndarray:
    """A mask's ids, uint8 [H, W], from an indexed or 8-bit grey image, turned as a frame is (`read_frame`).

    UserError if it is another kind of image.
    """
    data = read_bytes(path)
    try:
        with Image.open(io.BytesIO(data), formats=MASK_FORMATS + BLURRED) as image:
            mode, kind = image.mode, image.format
            ids = np.array(ImageOps.exif_transpose(image))
    except Exception as error:  # whatever a damaged or hostile file makes the decoder stumble over
        raise UserError(f"{path}: not a mask that can be decoded ({_reason(error)}); replace the file") from error
    if kind in BLURRED:
        raise UserError(
            f"{path}: a mask must not be {kind}, which blurs ids into others; save it as PNG where it is made"
        )
    if mode not in ("P", "L", "1"):
        raise UserError(f"{path}: a mask must be an indexed or 8-bit grey image of object ids, not {mode}; convert it")
    return ids.astype(np.uint8)


def list_frames(folder: Path, but: Iterable[Path] = ()) -> list[Path]:
    """The frames of a folder in the order of their numbers; but: files that are none."""
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder of frames")
    others = {path.resolve() for path in but}
    frames = [path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES]
    frames = [path for path in frames if path.resolve() not in others] if others else frames
    if not frames:
        raise UserError(f"{folder}: holds no frames ({', '.join(FRAME_SUFFIXES)})")
    frames = in_order(frames)
    for frame, following in pairwise(frames):
        if frame.stem == following.stem:
            raise UserError(f"{frame} and {following.name}: two frames of one number; remove one of them")
    return frames


def read_frames(paths: Iterable[Path]) -> Iterator[np.ndarray]:
    """Frames one after the other, BGR uint8 [H, W, 3], all of the first one's size."""
    size = None
    for path in paths:
        frame = read_frame(path)
        size = size or frame.shape[:2]
        require_size(path, frame, size)
        yield frame


def require_size(path: Path, image: np.ndarray, size: tuple[int, int]) -> None:
    """UserError unless an image [H, W, …] has the frames' size (height, width)."""
    if image.shape[:2] != size:
        found, wanted = (f"{width}x{height}" for height, width in (image.shape[:2], size))
        raise UserError(f"{path}: is {found}, but its sequence's frames are {wanted}; all must be of one size")


def read_squeezed(paths: Iterable[Path], size: int) -> Iterator[np.ndarray]:
    """Frames as `read_frames` reads them, squeezed to size × size."""
    return (cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR) for frame in read_frames(paths))


def choose(listed: list[str], names: list[str] | None, where: Path) -> list[str]:
    """All videos that are listed, or those of `names`; UserError if one of them is not listed."""
    if unknown := [name for name in names or [] if name not in listed]:
        raise UserError(f"--videos {','.join(unknown)}: not in {where}")
    return [name for name in listed if names is None or name in names]


def read_video(path: Path) -> tuple[Iterator[np.ndarray], tuple[int, int], int | None, Fraction]:
    """A video file's frames, BGR uint8 [H, W, 3]; their height and width; how many it says it has; how many a second.

    UserError if there is nothing in it that OpenCV can decode.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such video file or folder of frames")
    capture = cv2.VideoCapture(str(path))
    found, first = capture.read()
    if not found:
        raise UserError(f"{path}: OpenCV decodes no frame of it; convert it, or name a folder of its frames")
    count, said = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)

    def frames() -> Iterator[np.ndarray]:
        yield first
        while (result := capture.read())[0]:
            yield result[1]
        capture.release()

    rate = Fraction(said).limit_denominator(1001) if 0 < said <= MAX_RATE else Fraction(0)  # also 0 if nearly so
    return frames(), first.shape[:2], int(count) if count > 0 else None, rate or Fraction(USUAL_RATE)


def read_list(path: Path, *, way_out: str, plain: bool = True) -> list[str]:
    """The lines of a list of videos, each once; plain: all must be plain names of folders."""
    lines = read_text(path, way_out=way_out).splitlines()
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise UserError(f"{path}: the list of sequences is empty")
    for name in names if plain else ():
        require_plain(path, name)
    return names


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Sorted so that 2 comes before 10, whether names are padded with zeros or not."""
    return sorted(paths, key=lambda path: (len(path.stem), path.stem))


def _require_sane_header(path: Path, data: bytes) -> None:
    """OpenCV takes the memory that a few bytes claim; Pillow has a limit, and reads headers alone."""
    try:
        Image.open(io.BytesIO(data), formats=FRAME_FORMATS).close()
    except UnidentifiedImageError:  # OpenCV will say whether it is an image
        return
    except UNDECODABLE as error:
        raise UserError(f"{path}: the image is damaged ({_reason(error)}); replace the file") from error


def _require_whole(path: Path, data: bytes) -> None:
    """OpenCV fills what is missing of a truncated image with grey; Pillow refuses it."""
    try:
        with Image.open(io.BytesIO(data), formats=FRAME_FORMATS) as image:
            image.load()
    except UNDECODABLE as error:
        raise UserError(f"{path}: the image is damaged ({_reason(error)}); replace the file") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its text names the object that the file was read through
        return "unknown format"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
