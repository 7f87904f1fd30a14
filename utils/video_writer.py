"""Videos that browsers play, with the times, the pixels' shape and the sound of the video that they show."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.codec.context import Flags

from utils.errors import warn
from utils.savepath import writing
from utils.visualize import overlay

BT601_MATRIX, BT709 = 5, 1  # codes of H.264's colour description
CONSTANT_RATE_FACTOR = "18"  # x264's quality: visually lossless
LONGEST_SIDE = 8192  # what decoders of H.264 in browsers and on graphics cards take at most; libx264 itself 16384
FINEST_UNIT = Fraction(1, 1_000_000)  # of times in an MP4, whose clock has 32 bits
USUAL_UNIT = Fraction(1, 90_000)  # of times, MPEG's


class VideoWriter:
    """Writes RGB frames as an H.264 MP4; use as a context manager.

    rate: frames per second; time_base: the unit of the times passed to `write`; aspect: a pixel's width by its height;
    sound: a PyAV audio stream and its packets, which are copied.
    """

    def __init__(
        self,
        path: Path,
        rate: Fraction | int = 24,
        *,
        time_base: Fraction | None = None,
        aspect: Fraction = Fraction(1),
        sound: tuple[Any, Iterator[Any]] | None = None,
    ) -> None:
        self._path, self._unit, self._last = path, time_base, -1
        if time_base and time_base < FINEST_UNIT:
            self._unit = USUAL_UNIT
        with writing(path):  # `file:` since FFmpeg takes what precedes a colon for a protocol
            self._container = av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": CONSTANT_RATE_FACTOR})
        if self._unit:
            self._stream.codec_context.time_base = self._unit
            self._stream.codec_context.flags |= Flags.frame_duration  # the last one's, too
            self._stream.codec_context.max_b_frames = 0  # with them, an MP4 of variable rate states a wrong length
        self._stream.pix_fmt = "yuv420p"  # the one format every browser plays
        context = self._stream.codec_context  # as swscale converts; without it, browsers assume BT.709 for HD
        context.colorspace, context.color_primaries, context.color_trc = BT601_MATRIX, BT709, BT709
        context.sample_aspect_ratio = aspect
        self._sound = _SoundTrack(path, self._container, *sound) if sound else None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        with _encoding(self._path):
            try:
                self._container.mux(self._stream.encode())
                if self._sound and self._stream.codec_context.is_open:
                    self._sound.write()
            finally:
                self._container.close()

    def write_overlay(self, frame: np.ndarray, mask: np.ndarray, *times: Fraction | None) -> None:
        """Append a frame, BGR uint8 [H, W, 3], with its mask drawn over it, uint8 [H, W]; times: as for `write`."""
        self.write(overlay(frame, mask), *times)

    def write(self, picture: np.ndarray, time: Fraction | None = None, duration: Fraction | None = None) -> None:
        """Append a picture, RGB uint8 [H, W, 3]; odd sizes are padded by one row or column, as H.264 requires.

        time, duration: in seconds, the time after that of the picture before; without them, pictures come at the rate.
        """
        picture = self._fitting(picture)
        height, width = picture.shape[:2]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if not self._stream.codec_context.is_open:
            self._stream.height, self._stream.width = even.shape[:2]
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        if self._unit and time is not None:
            frame.pts = self._last = max(round(time / self._unit), self._last + 1)
            frame.time_base, frame.duration = self._unit, round((duration or 0) / self._unit)
        with _encoding(self._path):
            self._container.mux(self._stream.encode(frame))
            if self._sound and time is not None:
                self._sound.write(until=time)

    def _fitting(self, picture: np.ndarray) -> np.ndarray:
        """Shrink a picture that is too large for a video."""
        height, width = picture.shape[:2]
        scale = LONGEST_SIDE / max(height, width)
        if scale >= 1:
            return picture
        smaller = max(1, round(width * scale)), max(1, round(height * scale))
        if not self._stream.codec_context.is_open:
            warn(f"{self._path}: is {smaller[0]}x{smaller[1]}, since videos of {width}x{height} are not played")
        return cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA)


class _SoundTrack:
    """Copies a sound into a container, as far as it can; tells what it leaves out."""

    def __init__(self, path: Path, container: Any, stream: Any, packets: Iterator[Any]) -> None:
        self._path, self._container, self._packets = path, container, packets
        self._next: Any = None
        try:
            with av.open(BytesIO(), "w", format="mp4") as trial:
                trial.add_stream_from_template(stream)
                trial.start_encoding()
            self._stream = container.add_stream_from_template(stream)
        except (av.FFmpegError, ValueError):
            self._leave_out(f"an MP4 cannot hold {getattr(stream.codec_context, 'name', 'its codec')}")
        else:
            self._advance()

    def write(self, until: Fraction | None = None) -> None:
        """Copy the packets up to a time in seconds, or all."""
        while self._next and (until is None or self._next.dts * self._next.time_base <= until):
            packet = self._next
            packet.stream = self._stream
            try:
                self._container.mux(packet)
            except av.FFmpegError as error:
                self._leave_out(error.strerror)
            else:
                self._advance()

    def _advance(self) -> None:
        try:
            self._next = next(self._packets, None)
        except av.FFmpegError as error:
            self._leave_out(error.strerror)

    def _leave_out(self, reason: str | None) -> None:
        self._next = None
        warn(f"{self._path}: the sound, or the rest of it, is left out ({reason})")


@contextmanager
def _encoding(path: Path) -> Iterator[None]:
    """Context for encoding to a file: any error of FFmpeg, of which some are no OSError, becomes a UserError."""
    with writing(path):
        try:
            yield
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error
