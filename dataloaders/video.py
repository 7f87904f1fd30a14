"""Video files, decoded by FFmpeg through PyAV; UserError for one that cannot be decoded."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter

from utils.errors import UserError

MAX_RATE, USUAL_RATE = 1000, 24  # frames per second; the latter if a video has no valid rate
LOCAL = {"protocol_whitelist": "file,crypto,data"}  # a playlist must not make FFmpeg fetch from a network
WIDE = {int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)}  # transfer functions of HDR: PQ and HLG
TO_BT709: dict[str, Any] = {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}
MICROSECOND = Fraction(1, 1_000_000)
LAST_PACKET = Fraction(1, 4)  # seconds that a file's last packet lasts at most, if it does not say


class Frame(NamedTuple):
    """A frame, when it is shown and for how long; None: the frames follow one another at the video's rate."""

    pixels: np.ndarray  # BGR uint8 [H, W, 3]
    time: Fraction | None = None  # seconds
    duration: Fraction | None = None


class Sound(NamedTuple):
    """A video's sound, not decoded; the times of its packets are those of the frames."""

    stream: Any  # PyAV's AudioStream
    packets: Iterator[Any]  # PyAV's Packets


@dataclass
class Video:
    """An opened video, whose frames can be read once."""

    frames: Iterator[Frame]
    size: tuple[int, int]  # height and width of all frames
    length: int  # the number of frames, or fewer if some cannot be decoded
    rate: Fraction  # frames per second, on average
    time_base: Fraction | None = None  # the unit of the frames' times
    aspect: Fraction = Fraction(1)  # a pixel's width by its height
    sound: Sound | None = None
    problems: list[str] = field(default_factory=list)  # what cannot be read; complete after the last frame


def read_video(path: Path) -> Video:
    """Open a video file: its first stream of pictures, turned as its display matrix says.

    UserError if no frame of it can be decoded.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such video file or folder of frames")
    try:
        container = _open(path)
        stream = _picture_stream(path, container)
        length, problems = _count(path, stream.index)
        decoded = _decode(container, stream, problems)
        first = next(decoded, None)
    except (av.FFmpegError, ValueError) as error:  # ValueError: no decoder
        reason = getattr(error, "strerror", error)
        raise UserError(f"{path}: FFmpeg decodes no frame of it ({reason}); convert it, or pass its frames") from error
    if first is None:
        raise UserError(f"{path}: FFmpeg decodes no frame of it; convert it, or pass a folder of its frames")
    said = stream.average_rate or stream.guessed_rate or Fraction(0)
    rate = said.limit_denominator(1001) if 0 < said <= MAX_RATE else Fraction(0)  # also 0 if almost 0
    rate = rate or Fraction(USUAL_RATE)
    sideways, start = first.rotation % 180 != 0, _start(container, stream, first)
    frames = _frames(first, decoded, start, stream, rate)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    return Video(
        frames=frames,
        size=(first.width, first.height) if sideways else (first.height, first.width),
        length=length,
        rate=rate,
        time_base=stream.time_base,
        aspect=1 / aspect if sideways else aspect,
        sound=_sound(path, start * stream.time_base),
        problems=problems,
    )


def _open(path: Path) -> Any:
    """Open a container; `file:` since FFmpeg takes what precedes a colon for a protocol."""
    return av.open(f"file:{path}", container_options=LOCAL, metadata_errors="replace")


def _picture_stream(path: Path, container: Any) -> Any:
    """The first stream of pictures that is no cover."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        others = sorted({stream.type for stream in container.streams if stream.type != "video"})
        raise UserError(f"{path}: holds no frame, only {', '.join(others) or 'a cover'}; pass a video")
    streams[0].thread_type = "AUTO"
    return streams[0]


def _count(path: Path, index: int) -> tuple[int, list[str]]:
    """Count the packets of a stream that are shown, without decoding: as many as frames; and tell if it is cut off."""
    count, total, end = 0, 0, Fraction(0)
    with _open(path) as container:
        stream, duration = container.streams[index], (container.duration or 0) * MICROSECOND
        indexed = len(stream.index_entries)  # in an MP4 or AVI all packets, in a Matroska file some, else none
        try:
            for packet in container.demux():
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream_index == index and packet.size:
                    total, count = total + 1, count + (not packet.is_discard)
        except av.FFmpegError:
            pass  # told when the frames are decoded
        states_length = container.format.name.startswith("matroska")  # others are estimated from the file's size
    if total < indexed:
        return count, [f"says it has {indexed} frames, but {total} are in the file; it may be cut off"]
    if states_length and end < duration - LAST_PACKET:
        return count, [f"says it lasts {float(duration):.2f} s, but ends after {float(end):.2f} s; it may be cut off"]
    return count, []


def _decode(container: Any, stream: Any, problems: list[str]) -> Iterator[Any]:
    """Yield all frames that can be decoded; add to `problems` what cannot."""
    broken = 0
    for packet in _packets(container, stream, problems):
        try:
            frames = stream.decode(packet)
        except av.FFmpegError:
            broken += 1
        else:
            yield from frames
    if broken:
        problems.append(f"{broken} of its packets cannot be decoded; their frames are left out")


def _packets(container: Any, stream: Any, problems: list[str]) -> Iterator[Any]:
    """Yield a stream's packets, and at last None, which makes the decoder return what it holds back."""
    try:
        yield from (packet for packet in container.demux(stream) if packet.size)
    except av.FFmpegError as error:
        problems.append(f"cannot be read to its end ({error.strerror})")
    yield None


def _start(container: Any, stream: Any, first: Any) -> int:
    """When the video starts, in the stream's unit: as FFmpeg, where its first stream does; never after a frame."""
    start = round(max(0, container.start_time or 0) * MICROSECOND / stream.time_base)
    return start if first.pts is None else min(start, first.pts)


def _frames(first: Any, others: Iterable[Any], start: int, stream: Any, rate: Fraction) -> Iterator[Frame]:
    """Convert decoded frames. A time that is missing, or not after the one before, follows it after a step."""
    unit, previous, shift, pixels = stream.time_base, None, -start, _Pixels(first)
    step = max(1, round(1 / rate / unit))
    has_times = stream.container.format.name != "avi"  # whose rate is constant; FFmpeg's times are those of decoding
    for frame in _chain(first, others):
        after = 0 if previous is None else previous + step
        time = frame.pts + shift if has_times and frame.pts is not None else after
        if previous is not None and time <= previous:
            time, shift = after, shift + after - time  # later frames too, as where two recordings were joined
        yield Frame(pixels.of(frame), time * unit, (frame.duration or step) * unit)
        previous = time


def _chain(first: Any, others: Iterable[Any]) -> Iterator[Any]:
    yield first
    yield from others


class _Pixels:
    """Converts decoded frames to BGR uint8 [H, W, 3], at the first one's size, in a usual screen's colours."""

    def __init__(self, first: Any) -> None:
        self._size = {"width": first.width, "height": first.height}
        self._turns = first.rotation // 90
        self._reformatter = VideoReformatter()  # keeps FFmpeg's tables, which take seconds for HDR

    def of(self, frame: Any) -> np.ndarray:
        """Return the pixels of a frame; a conversion of colours that FFmpeg does not know is left out."""
        wide = frame.color_trc in WIDE or frame.color_primaries == ColorPrimaries.BT2020
        try:
            picture = self._converted(frame, TO_BT709 if wide else {})
        except OSError:
            picture = self._converted(frame, {})
        return np.ascontiguousarray(np.rot90(picture, self._turns))

    def _converted(self, frame: Any, colours: dict[str, Any]) -> np.ndarray:
        settings = {"format": "bgr24", "interpolation": Interpolation.BICUBIC, **self._size, **colours}
        return self._reformatter.reformat(frame, **settings).to_ndarray()


def _sound(path: Path, start: Fraction) -> Sound | None:
    """Open the file's sound once more, to be read beside the frames; times count from `start`, in seconds."""
    container = _open(path)
    stream = container.streams.best("audio")
    if stream is None:
        container.close()
        return None

    def packets() -> Iterator[Any]:
        previous = None
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and packet.dts is not None:
                if not packet.duration and previous is not None:  # not stated, as in some Matroska files
                    packet.duration = packet.pts - previous
                previous = packet.pts
                packet.pts -= round(start / packet.time_base)
                packet.dts -= round(start / packet.time_base)
                yield packet
        container.close()

    return Sound(stream, packets())
