"""Reading video files."""

import os
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from dataloaders.video import read_video
from tests.support.clips import LONG_STILL, MILLISECOND, clip_pictures, write_clip, write_sound_with_cover
from tests.support.hostile_videos import write_changing_video, write_video
from utils.errors import UserError

CLIPS: dict[str, dict] = {
    "BT.601": {"colours": (6, 6, 6)},
    "BT.709": {"colours": (1, 1, 1)},
    "BT.709 of full range": {"colours": (1, 1, 1), "full_range": True},
    "no colours stated": {},
    "10 bits": {"pixels": "yuv420p10le", "colours": (1, 1, 1)},
    "HDR10": {"pixels": "yuv420p10le", "colours": (9, 9, 16)},
    "HLG": {"pixels": "yuv420p10le", "colours": (9, 9, 18)},
    "4:4:4": {"pixels": "yuv444p"},
    "RGB": {"codec": "libx264rgb", "pixels": "bgr24"},
    "motion JPEG": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "FFV1": {"codec": "ffv1"},
    **{f"turned by {angle}": {"rotation": angle} for angle in (0, 90, 180, 270)},
}


SLOW = {"HDR10", "HLG"}  # FFmpeg and OpenCV take many seconds to make tables of their colours


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.soak] * (n in SLOW)) for n in CLIPS])
def test_frames_of_a_video_are_those_of_opencv(tmp_path, name):
    path = tmp_path / ("video.mp4" if "rotation" in CLIPS[name] else "video.mkv")
    write_clip(path, clip_pictures(size=(50, 70)), **CLIPS[name])
    capture = cv2.VideoCapture(str(path))
    wanted = [picture for _, picture in iter(capture.read, (False, None))]
    video = read_video(path)
    frames = [frame.pixels for frame in video.frames]
    assert (video.length, video.problems) == (8, [])
    assert {frame.shape for frame in frames} == {(*video.size, 3)}
    np.testing.assert_allclose(np.array(frames, int), wanted, rtol=0, atol=1)


def test_colours_that_ffmpeg_cannot_convert_are_left_as_they_are(tmp_path):
    """A logarithmic transfer function with the primaries of HDR."""
    write_clip(tmp_path / "video.mkv", clip_pictures(2), pixels="yuv420p10le", colours=(9, 9, 9))
    write_clip(tmp_path / "plain.mkv", clip_pictures(2), pixels="yuv420p10le", colours=(9, 1, 1))
    found, plain = (
        [frame.pixels for frame in read_video(tmp_path / name).frames] for name in ("video.mkv", "plain.mkv")
    )
    np.testing.assert_array_equal(found, plain)


def test_tables_for_colours_are_made_once(tmp_path):
    """For HDR they take FFmpeg seconds."""
    write_clip(tmp_path / "video.mkv", clip_pictures())
    with patch("dataloaders.video.VideoReformatter", wraps=VideoReformatter) as made:
        assert len(list(read_video(tmp_path / "video.mkv").frames)) == 8
    assert made.call_count == 1


def test_a_long_still_and_its_sound(tmp_path):
    """OpenCV reads three of these frames."""
    write_clip(tmp_path / "video.mkv", clip_pictures(), times=LONG_STILL, sound="libopus", seconds=9)
    video = read_video(tmp_path / "video.mkv")
    assert [frame.time for frame in video.frames] == [time * MILLISECOND for time in LONG_STILL]
    assert (video.length, video.problems) == (8, [])
    assert video.sound


def test_av1(tmp_path):
    options = {"preset": "12", "svtav1-params": "lp=1"}
    write_clip(tmp_path / "video.webm", clip_pictures(size=(64, 64)), "libsvtav1", options=options)
    assert len(list(read_video(tmp_path / "video.webm").frames)) == 8


@pytest.mark.parametrize("sound", ["aac", "flac"])
def test_a_sound_longer_than_the_pictures_is_no_problem(tmp_path, sound):
    for name in ("video.mp4", "video.mkv"):
        write_clip(tmp_path / name, clip_pictures(), sound=sound, seconds=5)
        video = read_video(tmp_path / name)
        assert len(list(video.frames)) == 8
        assert not video.problems


@pytest.mark.parametrize("name", ["12:30:45.mp4", "100%d.mp4", "file:x.mp4", os.fsdecode(b"bad\xff.mp4")], ids=ascii)
def test_videos_of_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_clip(Path(name), clip_pictures())
    assert len(list(read_video(Path(name)).frames)) == 8


def test_pixels_that_are_not_square(tmp_path):
    write_clip(tmp_path / "wide.mp4", clip_pictures(), aspect=Fraction(4, 3))
    write_clip(tmp_path / "turned.mp4", clip_pictures(), aspect=Fraction(4, 3), rotation=90)
    wide, turned = (read_video(tmp_path / f"{name}.mp4") for name in ("wide", "turned"))
    assert (wide.size, wide.aspect) == ((48, 64), Fraction(4, 3))
    assert (turned.size, turned.aspect) == ((64, 48), Fraction(3, 4))


def test_a_sound_alone_and_a_cover_are_no_video(tmp_path):
    write_sound_with_cover(tmp_path / "song.mp4")
    with pytest.raises(UserError, match=r"song\.mp4: holds no frame, only audio"):
        read_video(tmp_path / "song.mp4")


@pytest.mark.parametrize("settings", [{"codec": "mjpeg", "pixels": "yuvj420p"}, {"options": {"g": "1"}}], ids=str)
def test_packets_that_are_damaged_are_told_and_the_others_used(tmp_path, settings):
    path = tmp_path / "video.mkv"
    write_clip(path, clip_pictures(12), **settings)
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    place, size = places[4]
    data[place + 10 : place + size] = bytes(size - 10)
    path.write_bytes(data)
    video = read_video(path)
    count = len(list(video.frames))
    assert count >= 11
    assert (count < 12) == bool(video.problems)


@pytest.mark.parametrize("name", ["video.mkv", "video.mp4", "video.avi"])
def test_a_video_cut_off_is_told(tmp_path, name):
    path = tmp_path / name
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    write_clip(path, clip_pictures(24), "mjpeg", "yuvj420p", container_options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video = read_video(path)
    assert 0 < len(list(video.frames)) < 24
    if not name.endswith("avi"):  # whose index is at its end
        assert "may be cut off" in video.problems[0]


def test_times_of_two_recordings_that_were_joined_go_on(tmp_path):
    write_changing_video(tmp_path / "video.ts")
    times = [frame.time for frame in read_video(tmp_path / "video.ts").frames]
    assert len(times) == 16
    np.testing.assert_allclose(np.diff(np.array(times, float)), 1 / 24, rtol=0, atol=0.001)


@pytest.mark.parametrize(("rate", "found"), [(90_000, 24), (1000, 1000), (Fraction(25, 2), Fraction(25, 2))])
def test_rate_of_a_video(tmp_path, rate, found):
    write_video(tmp_path / "video.mkv", rate=rate)
    assert read_video(tmp_path / "video.mkv").rate == found


def test_frames_of_an_avi_come_at_its_rate(tmp_path):
    """FFmpeg's times are those of decoding, which are out of order with B-frames."""
    write_clip(tmp_path / "video.avi", clip_pictures(), sound="libmp3lame")
    times = [frame.time for frame in read_video(tmp_path / "video.avi").frames]
    assert times == [Fraction(index, 24) for index in range(8)]
