"""Videos: what is written, when it is shown, with which sound; and what cannot be written."""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.clips import LONG_STILL, MILLISECOND, clip_pictures, write_clip
from tests.support.golden import load_golden
from utils import video_writer
from utils.errors import UserError
from utils.video_writer import VideoWriter
from utils.visualize import davis_palette, overlay

UNSPECIFIED = 2  # H.264's number for unspecified colours


@dataclass(frozen=True)
class Video:
    """A video file as PyAV reads it."""

    codec: str
    pixel_format: str
    rate: Fraction
    times: list[Fraction]  # in seconds
    duration: Fraction
    pictures: np.ndarray  # RGB [T, H, W, 3]
    colours: tuple[int, int, int]  # H.264's numbers of the matrix, the primaries and the transfer function


@pytest.fixture
def record(tmp_path):
    """Writes pictures and reads them back."""

    def write_and_read(pictures: np.ndarray, **rate: Fraction | int) -> Video:
        path = tmp_path / "video.mp4"
        with VideoWriter(path, **rate) as video:
            for picture in pictures:
                video.write(picture)
        with av.open(str(path)) as container:
            (stream,) = container.streams
            frames = list(container.decode(stream))
            assert stream.frames == len(frames)
            return Video(
                codec=stream.codec_context.name,
                pixel_format=stream.codec_context.pix_fmt,
                rate=stream.average_rate,
                times=[frame.pts * frame.time_base for frame in frames],
                duration=stream.duration * stream.time_base,
                pictures=np.stack([frame.to_ndarray(format="rgb24") for frame in frames]),
                colours=(frames[0].colorspace, frames[0].color_primaries, frames[0].color_trc),
            )

    return write_and_read


@pytest.fixture(scope="module")
def overlays() -> np.ndarray:
    """The overlays of a clip, RGB [12, 100, 200, 3]."""
    clip = load_golden("sequence_clip")
    return np.stack([overlay(*pair) for pair in zip(clip["frames_bgr"][:12], clip["masks"][:12], strict=True)])


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((found.astype(float) - wanted) ** 2)))


def boxes(content: bytes) -> list[str]:
    """The names of an MP4's outermost boxes, in the file's order."""
    names, start = [], 0
    while start < len(content):
        size = int.from_bytes(content[start : start + 4], "big")
        assert size >= 8  # 0 and 1 are for boxes of other lengths, which small files do not hold
        names.append(content[start + 4 : start + 8].decode())
        start += size
    assert start == len(content)
    return names


@pytest.mark.parametrize("width", [100, 101])
@pytest.mark.parametrize("height", [76, 77])
def test_videos_show_what_was_written(record, overlays, height, width):
    pictures = overlays[:, :height, :width]
    video = record(pictures)
    assert (video.codec, video.pixel_format) == ("h264", "yuv420p")
    assert video.pictures.shape == (len(pictures), height + height % 2, width + width % 2, 3)
    for found, wanted in zip(video.pictures[:, :height, :width], pictures, strict=True):
        assert psnr(found, wanted) > 28  # colours at half the resolution blur round sharp contours


@pytest.mark.parametrize("size", [(77, 101), (78, 102)], ids=str)
def test_smooth_pictures_lose_next_to_nothing(record, size):
    y, x = np.indices(size)
    pictures = np.stack(
        [
            127 + 100 * np.stack([np.sin((x + 2 * step) / 20), np.cos(y / 15), np.sin((x - y) / 30)], -1)
            for step in range(6)
        ]
    ).astype(np.uint8)
    found = record(pictures).pictures[:, : size[0], : size[1]]
    assert min(map(psnr, found, pictures)) > 36


def test_odd_sizes_repeat_the_last_row_and_column(record):
    picture = np.full((77, 101, 3), 40, np.uint8)
    picture[-3:], picture[:, -3:] = 200, 200
    found = record(np.stack([picture] * 3)).pictures
    np.testing.assert_allclose(found[:, -1], 200, rtol=0, atol=8)
    np.testing.assert_allclose(found[:, :, -1], 200, rtol=0, atol=8)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 9), (3, 16)], ids=str)
def test_tiny_pictures(record, size):
    video = record(np.full((3, *size, 3), 120, np.uint8))
    assert video.pictures.shape == (3, size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    np.testing.assert_allclose(video.pictures, 120, rtol=0, atol=4)


def test_a_video_of_full_size(record):
    picture = np.zeros((480, 854, 3), np.uint8)
    picture[100:300, 200:500] = 192, 64, 32
    video = record(np.stack([picture] * 2))
    assert video.pictures.shape == (2, 480, 854, 3)
    np.testing.assert_allclose(video.pictures[0, 200, 350], (192, 64, 32), rtol=0, atol=4)


@pytest.mark.parametrize("count", [1, 2, 47])
def test_every_frame_is_there_in_order(record, count):
    levels = np.linspace(20, 230, count).round().astype(np.uint8)
    video = record(np.broadcast_to(levels[:, None, None, None], (count, 32, 48, 3)))
    assert len(video.pictures) == count
    np.testing.assert_allclose(video.pictures.mean((1, 2, 3)), levels, rtol=0, atol=2)


@pytest.mark.parametrize("rate", [1, 10, 24, 25, 60, Fraction(30000, 1001), Fraction(5, 2)], ids=str)
def test_frames_come_at_the_rate_given(record, rate):
    video = record(np.zeros((7, 16, 16, 3), np.uint8), rate=rate)
    assert video.rate == rate
    assert video.times == [index / Fraction(rate) for index in range(7)]
    assert video.duration == 7 / Fraction(rate)


def test_24_frames_a_second_unless_told(record):
    assert record(np.zeros((2, 16, 16, 3), np.uint8)).rate == 24


def test_players_can_start_before_they_have_the_whole_file(record, tmp_path, overlays):
    record(overlays)
    names = boxes((tmp_path / "video.mp4").read_bytes())
    assert names[0] == "ftyp"
    assert names.index("moov") < names.index("mdat")


def test_videos_say_which_colours_they_mean(record):
    """Else browsers guess, and wrongly from 720 rows on."""
    colours = davis_palette()[[0, 1, 2, 3, 4, 8, 10, 255]]
    video = record(np.broadcast_to(np.repeat(colours, 16, 0), (2, 32, 128, 3)))
    assert UNSPECIFIED not in video.colours
    np.testing.assert_allclose(video.pictures[:, 16, 8::16], np.stack([colours] * 2), rtol=0, atol=4)


def test_writing_leaves_pictures_as_they_were_and_takes_views(record, overlays):
    before = overlays.copy()
    for pictures in (overlays, overlays[:, ::-1, ::-1], overlays[:, ::2, ::2], overlays.transpose(0, 2, 1, 3)):
        assert min(map(psnr, record(pictures).pictures, pictures)) > 24
    np.testing.assert_array_equal(overlays, before)


def test_folders_are_made_and_earlier_videos_replaced(tmp_path):
    path = tmp_path / "overlay" / "new" / "clip.mp4"
    for count in (5, 2):
        with VideoWriter(path) as video:
            for _ in range(count):
                video.write(np.zeros((16, 16, 3), np.uint8))
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 2
    assert [entry.name for entry in path.parent.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_error_between_frames_is_the_one_that_is_seen(tmp_path, count):
    def fail(path: Path) -> None:
        with VideoWriter(path) as video:
            for _ in range(count):
                video.write(np.zeros((16, 16, 3), np.uint8))
            raise KeyError("the next frame cannot be read")

    with pytest.raises(KeyError, match="the next frame"):
        fail(tmp_path / "clip.mp4")


BLACK = np.zeros((16, 16, 3), np.uint8)


def test_times_pixel_shape_and_duration_are_kept(tmp_path):
    path = tmp_path / "video.mp4"
    with VideoWriter(path, Fraction(1, 2), time_base=MILLISECOND, aspect=Fraction(4, 3)) as video:
        for time in LONG_STILL:
            video.write(BLACK, time * MILLISECOND, 60 * MILLISECOND)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert [frame.pts * stream.time_base for frame in container.decode(stream)] == [
            time * MILLISECOND for time in LONG_STILL
        ]
        assert stream.duration * stream.time_base == pytest.approx(8.1, abs=0.001)
        assert stream.sample_aspect_ratio == Fraction(4, 3)


def test_times_finer_than_an_mp4_has_still_increase(tmp_path):
    nanosecond = Fraction(1, 10**9)
    with VideoWriter(tmp_path / "video.mp4", time_base=nanosecond) as video:
        for time in range(5):
            video.write(BLACK, time * nanosecond)
    with av.open(str(tmp_path / "video.mp4")) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert times == sorted(set(times))
    assert len(times) == 5


@pytest.mark.parametrize("sound", ["aac", "libmp3lame", "libopus", "flac", "ac3"])
def test_sound_is_copied(tmp_path, sound):
    """Packet for packet, also what is longer than the pictures."""
    write_clip(tmp_path / "source.mkv", clip_pictures(), sound=sound)
    with av.open(str(tmp_path / "source.mkv")) as source:
        wanted = [bytes(packet) for packet in source.demux(audio=0) if packet.size]
    with av.open(str(tmp_path / "source.mkv")) as source:
        packets = (packet for packet in source.demux(audio=0) if packet.size)
        with VideoWriter(tmp_path / "video.mp4", sound=(source.streams.audio[0], packets)) as video:
            for index in range(8):
                video.write(BLACK, Fraction(index, 24))
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert [bytes(packet) for packet in container.demux(audio=0) if packet.size] == wanted
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8


def test_sound_that_an_mp4_cannot_hold_is_told(tmp_path, capsys):
    write_clip(tmp_path / "source.avi", clip_pictures(), sound="adpcm_ms")
    with av.open(str(tmp_path / "source.avi")) as source:
        sound = source.streams.audio[0], source.demux(audio=0)
        with VideoWriter(tmp_path / "video.mp4", sound=sound) as video:
            video.write(BLACK, Fraction(0))
    assert "adpcm_ms" in capsys.readouterr().err
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("name", ["exp:1", "100%d", os.fsdecode(b"bad\xff"), "http://x"], ids=ascii)
def test_folders_of_any_name(tmp_path, name):
    path = tmp_path / name / "overlay.mp4"
    with VideoWriter(path) as video:
        video.write(BLACK)
    assert boxes(path.read_bytes())[:2] == ["ftyp", "moov"]


def test_a_relative_folder_with_a_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with VideoWriter(Path("exp:1/overlay.mp4")) as video:
        video.write(BLACK)
    assert Path("exp:1/overlay.mp4").stat().st_size


@pytest.mark.parametrize("size", [(4, 17_000), (17_000, 1)], ids=str)
def test_pictures_too_large_for_a_video_are_shrunk(record, capsys, size):
    video = record(np.full((2, *size, 3), 120, np.uint8))
    assert max(video.pictures.shape[1:3]) == video_writer.LONGEST_SIDE
    assert min(video.pictures.shape[1:3]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{size[1]}x{size[0]}" in line


def test_any_error_of_the_encoder_is_one_line(tmp_path, monkeypatch):
    """libx264's own is no OSError."""
    monkeypatch.setattr(video_writer, "LONGEST_SIDE", 100_000)
    with pytest.raises(UserError, match="cannot be written"), VideoWriter(tmp_path / "video.mp4") as video:
        video.write(np.zeros((2, 17_000, 3), np.uint8))
