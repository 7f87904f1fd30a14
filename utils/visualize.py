"""Visualisation: indexed masks with the DAVIS palette, overlays, and videos that browsers play."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from utils.palette import davis_palette
from utils.savepath import writing

OVERLAY_OPACITY = 0.5
BT601_MATRIX, BT709 = 5, 1  # codes of H.264's colour description
CONSTANT_RATE_FACTOR = "18"  # x264's quality: visually lossless


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write object ids, uint8 [H, W], as an indexed PNG with the DAVIS palette."""
    image = Image.fromarray(mask)
    image.putpalette(davis_palette().tobytes())  # turns the grey image into an indexed one, same values
    with writing(path):
        image.save(path)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture, RGB uint8 [H, W, 3], to a file."""
    with writing(path):
        Image.fromarray(picture).save(path)


def overlay(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw a mask [H, W] over a BGR frame [H, W, 3], with black contours -> RGB uint8 [H, W, 3]."""
    rgb = frame[..., ::-1]
    colours = davis_palette()[mask]
    blended = (OVERLAY_OPACITY * colours + (1 - OVERLAY_OPACITY) * rgb).astype(np.uint8)
    picture = np.where((mask > 0)[..., None], blended, rgb)
    contour = np.zeros(mask.shape, bool)
    contour[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    contour[1:] |= mask[1:] != mask[:-1]
    picture[contour] = 0
    return picture


class VideoWriter:
    """Writes RGB frames as an H.264 MP4; use as a context manager."""

    def __init__(self, path: Path, rate: Fraction | int = 24) -> None:
        import av  # only needed for videos

        self._av, self._path = av, path
        with writing(path):
            self._container = av.open(str(path), "w", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": CONSTANT_RATE_FACTOR})
        self._stream.pix_fmt = "yuv420p"  # the one format every browser plays
        context = self._stream.codec_context  # as swscale converts; without it, browsers assume BT.709 for HD
        context.colorspace, context.color_primaries, context.color_trc = BT601_MATRIX, BT709, BT709

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        with writing(self._path):
            try:
                self._container.mux(self._stream.encode())
            finally:
                self._container.close()

    def write_overlay(self, frame: np.ndarray, mask: np.ndarray) -> None:
        """Append a frame, BGR uint8 [H, W, 3], with its mask drawn over it, uint8 [H, W]."""
        self.write(overlay(frame, mask))

    def write(self, picture: np.ndarray) -> None:
        """Append a picture, RGB uint8 [H, W, 3]; odd sizes are padded by one row or column, as H.264 requires."""
        height, width = picture.shape[:2]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if not self._stream.codec_context.is_open:
            self._stream.height, self._stream.width = even.shape[:2]
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        with writing(self._path):
            self._container.mux(self._stream.encode(frame))
