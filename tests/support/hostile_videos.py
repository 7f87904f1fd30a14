"""Writers of damaged and unusual video files."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.support.hostile import Maker

PICTURES = [
    np.kron(np.random.default_rng(i).integers(0, 230, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    for i in range(8)
]


def write_video(
    path: Path,
    pictures: list[np.ndarray] = PICTURES,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    rate: Fraction | int = 24,
    times: list[int] | None = None,
    **settings: object,
) -> None:
    """A video of these pictures; times: of the frames, in hundredths of a second."""
    with av.open(str(path), "w", **settings) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2] if pictures else (48, 64)
        stream.pix_fmt = pixels
        if times:
            stream.codec_context.time_base = Fraction(1, 100)
        container.start_encoding()
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "bgr24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 100)
            container.mux(stream.encode(frame))
        if pictures:
            container.mux(stream.encode())


def video(*arguments: object, **settings: object) -> Maker:
    return lambda path: write_video(path, *arguments, **settings)


def write_audio(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_changing_video(path: Path) -> None:
    """A video whose frame size changes midway."""
    write_video(path, format="mpegts")
    first = path.read_bytes()
    write_video(path, [picture[:32, :32] for picture in PICTURES], format="mpegts")
    path.write_bytes(first + path.read_bytes())
