"""Short video files of all kinds: times, sound, rotation, colours, shape of the pixels."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

MILLISECOND = Fraction(1, 1000)
LONG_STILL = (0, 40, 80, 1200, 1240, 3600, 8000, 8040)  # times in milliseconds


def clip_pictures(count: int = 8, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """Smooth moving pictures, BGR."""
    blobs = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    picture = cv2.resize(blobs, size[::-1], interpolation=cv2.INTER_CUBIC)
    return [np.roll(picture, 4 * index, 1) for index in range(count)]


def write_clip(
    path: Path,
    pictures: list[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    times: tuple[int, ...] = (),
    rotation: int | None = None,
    aspect: Fraction | None = None,
    colours: tuple[int, int, int] | None = None,
    full_range: bool = False,
    sound: str = "",
    seconds: float = 1,
    options: dict[str, str] | None = None,
    **settings: object,
) -> None:
    """times: in milliseconds; colours: FFmpeg's numbers of matrix, primaries, transfer; sound: an encoder's name."""
    with av.open(f"file:{path}", "w", **settings) as container:
        stream = container.add_stream(codec, rate=24, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, context = pixels, stream.codec_context
        if times:
            context.time_base, context.max_b_frames = MILLISECOND, 0
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if aspect:
            context.sample_aspect_ratio = aspect
        if colours:
            context.colorspace, context.color_primaries, context.color_trc = colours
        if full_range:
            context.color_range = 2
        track = container.add_stream(sound, rate=48_000, layout="mono") if sound else None
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "bgr24")
            if colours:
                frame = frame.reformat(format=pixels, dst_colorspace=colours[0], dst_color_range=1 + full_range)
            if times:
                frame.pts, frame.time_base = times[index], MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track:
            write_silence(container, track, seconds)


def write_silence(container: object, track: object, seconds: float) -> None:
    context = track.codec_context
    size, form = context.frame_size or 1024, context.format.name
    for start in range(0, int(seconds * 48_000), size):
        samples = np.zeros((1, size), {"flt": np.float32, "s16": np.int16, "s32": np.int32}[form.rstrip("p")])
        frame = av.AudioFrame.from_ndarray(samples, form, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        container.mux(track.encode(frame))
    container.mux(track.encode())


def write_sound_with_cover(path: Path) -> None:
    """An MP4 with a sound and an attached picture, as music shops sell it."""
    with av.open(f"file:{path}", "w", format="mp4") as container:
        track = container.add_stream("aac", rate=48_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1, width=16, height=16, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.full((16, 16, 3), 90, np.uint8), "bgr24")))
        container.mux(cover.encode())
        write_silence(container, track, 0.5)
