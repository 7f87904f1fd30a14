"""propagate.py on a user's own video: files and folders, masks named by frame, and mistakes."""

import json
import sys
from fractions import Fraction
from unittest.mock import patch

import av
import cv2
import numpy as np
import pytest

import propagate
from tests.support.clips import LONG_STILL, MILLISECOND, write_clip
from tests.support.commands import require_refusal, require_success, require_warning
from tests.support.features import middles, paint
from tests.support.files import touch
from tests.support.user_video import FRAMES, SIZE, kinds, masks, run, write_set
from utils.video_writer import VideoWriter
from utils.visualize import write_mask


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path)


def test_a_folder_of_frames(folder):
    out = require_success(run(folder, "frames", "--mask", folder / "first.png", f"5={folder / 'sixth.png'}"))
    assert f"\n{FRAMES} frames" in out
    ids = np.array([0, 9, 0, 20])
    for index, mask in enumerate(masks(folder)):
        assert np.array_equal(middles(mask), middles(ids[kinds(index)])), index
    with av.open(str(folder / "results" / "overlay.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == FRAMES
        assert video.streams.video[0].average_rate == 24
        assert video.streams.video[0].codec_context.name == "h264"


def test_a_video_file_keeps_its_rate_and_size(folder):
    with VideoWriter(folder / "video.mp4", Fraction(30000, 1001)) as video:
        for index in range(FRAMES):
            video.write(paint(kinds(index)))
    require_success(run(folder, "video.mp4", "--mask", folder / "first.png"))
    found = masks(folder)
    assert len(found) == FRAMES
    for index, mask in enumerate(found):
        assert mask.shape == SIZE
        assert (mask == 9).sum() == pytest.approx((kinds(index) == 1).sum(), rel=0.4)
    with av.open(str(folder / "results" / "overlay.mp4")) as video:
        assert video.streams.video[0].average_rate == Fraction(30000, 1001)


@pytest.mark.parametrize(("name", "sound"), [("video.mkv", "libopus"), ("video.mov", "aac"), ("video.mkv", "alac")])
def test_an_overlay_has_the_times_and_the_sound_of_its_video(folder, name, sound):
    pictures = [paint(kinds(index)) for index in range(FRAMES)]
    write_clip(folder / name, pictures, times=LONG_STILL, sound=sound, seconds=9, aspect=Fraction(4, 3))
    with av.open(str(folder / name)) as video:
        packets = sum(1 for packet in video.demux(audio=0) if packet.size)
    require_success(run(folder, name, "--mask", folder / "first.png"))
    assert [mask.shape for mask in masks(folder)] == [SIZE] * FRAMES
    with av.open(str(folder / "results" / "overlay.mp4")) as video:
        stream = video.streams.video[0]
        times = [frame.pts * stream.time_base for frame in video.decode(stream)]
        assert times == [time * MILLISECOND for time in LONG_STILL]
        assert stream.sample_aspect_ratio == Fraction(4, 3)
    with av.open(str(folder / "results" / "overlay.mp4")) as video:
        assert sum(1 for packet in video.demux(audio=0) if packet.size) == packets
    require_success(run(folder, name, "--mask", folder / "first.png", "--rate", "29.97", "--overwrite"))
    with av.open(str(folder / "results" / "overlay.mp4")) as video:
        assert video.streams.video[0].average_rate == Fraction(30000, 1001)
        assert not video.streams.audio


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5", 5),
        ("12.5", Fraction(25, 2)),
        ("29.97", Fraction(30000, 1001)),
        ("30000/1001", Fraction(30000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("59.94", Fraction(60000, 1001)),
    ],
)
def test_frame_rates(text, rate):
    assert propagate.frame_rate(text) == rate


@pytest.mark.parametrize("name", ["run=1", "5=1"])
def test_a_mask_whose_path_has_an_equals_sign(folder, name):
    """Only digits before the first = are the number of a frame; ./ makes a path of them."""
    (folder / name).mkdir()
    path = (folder / "first.png").rename(folder / name / "first.png")
    require_success(run(folder, "frames", "--mask", path))
    require_success(run(folder, "frames", "--mask", f"0={path}"))


def test_a_savepath_with_a_colon(folder, monkeypatch):
    monkeypatch.chdir(folder)
    require_success(run(folder, "frames", "--mask", folder / "first.png", "--savepath", "exp:1"))
    assert (folder / "exp:1" / "overlay.mp4").stat().st_size


def test_objects_that_come_later_only(folder):
    require_success(run(folder, "frames", "--mask", f"5={folder / 'sixth.png'}"))
    found = masks(folder)
    assert not any(mask.any() for mask in found[:5])
    assert all((mask == 20).any() for mask in found[5:])


def test_the_same_command_does_it_again_and_another_is_refused(folder):
    command = "--mask", folder / "first.png", "--rate", 5
    require_success(run(folder, "frames", *command))
    require_success(run(folder, "frames", *command))
    with av.open(str(folder / "results" / "overlay.mp4")) as video:
        assert video.streams.video[0].average_rate == 5
    native = masks(folder)
    require_refusal(run(folder, "frames", *command, "--max_side", 32), "max_side", "--overwrite")
    require_warning(run(folder, "frames", *command, "--max_side", 32, "--overwrite"), "object 9 vanished in frame 7")
    smaller = masks(folder)
    assert [mask.shape for mask in smaller] == [SIZE] * FRAMES
    assert np.array_equal(smaller[0], native[0])
    assert any((one != other).any() for one, other in zip(native, smaller, strict=True))


def test_other_frames_under_the_same_name_are_refused(folder):
    """Else masks of the longer video would stay behind those of the shorter one."""
    command = "frames", "--mask", folder / "first.png"
    require_success(run(folder, *command))
    for index in range(4, FRAMES):
        (folder / "frames" / f"{index}.png").unlink()
    line = require_refusal(run(folder, *command), "4.png was removed, and 3 more files differ", "--overwrite")
    assert len(line) < 400
    require_success(run(folder, *command, "--overwrite"))
    assert len(masks(folder)) == 4
    touch(folder / "frames" / "2.png")
    require_refusal(run(folder, *command), "2.png was modified")


def test_a_folder_of_an_earlier_version_is_refused(folder):
    command = "frames", "--mask", folder / "first.png"
    require_success(run(folder, *command))
    record = folder / "results" / "run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "inputs": {}}))
    require_refusal(run(folder, *command), "did not note its input files", "--overwrite")


def test_a_mask_beside_the_frames_is_no_frame(folder):
    (folder / "first.png").rename(folder / "frames" / "first.png")
    out = require_success(run(folder, "frames", "--mask", folder / "frames" / "first.png"))
    assert f"\n{FRAMES} frames" in out


def test_what_is_taken_for_what_is_told(folder):
    """And which object is lost: the second one leaves with the frames' colour in frame 3."""
    both = np.where(kinds(0), 9, 0).astype(np.uint8)
    both[28:44, 24:40] = 4
    write_mask(folder / "first.png", both)
    for index in range(3):
        scene = kinds(index)
        scene[28:44, 24:40] = 3
        cv2.imwrite(str(folder / "frames" / f"{index}.png"), paint(scene))
    for index in range(3, FRAMES):
        cv2.imwrite(str(folder / "frames" / f"{index}.png"), paint(np.where(kinds(index) == 1, 1, 0)))
    out = require_warning(run(folder, "frames", "--mask", folder / "first.png"), "object 4 vanished in frame 3;")
    assert f"{folder / 'first.png'}: 2 objects: 4 (8 %), 9 (8 %)\n" in out


def test_a_video_that_is_cut_off(folder):
    """The frames that can be read are propagated, and a warning is given."""
    random = np.random.default_rng(0)
    with av.open(str(folder / "whole.mp4"), "w", options={"movflags": "faststart"}) as video:
        stream = video.add_stream(
            "libx264", rate=24, width=SIZE[1], height=SIZE[0], pix_fmt="yuv420p", options={"g": "1", "bf": "0"}
        )
        for index in range(FRAMES):
            pixels = paint(kinds(index)) + random.integers(0, 100, (*SIZE, 3), np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "bgr24")))
        video.mux(stream.encode())
    whole = (folder / "whole.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    outcome = run(folder, "cut.mp4", "--mask", folder / "first.png")
    assert outcome.code == 0, outcome.stderr
    (warning,) = outcome.starting("warning: ")
    assert f"says it has {FRAMES} frames" in warning
    assert 0 < len(masks(folder)) < FRAMES


def test_mistakes(folder):
    first = folder / "first.png"
    write_mask(folder / "empty.png", np.zeros(SIZE, np.uint8))
    write_mask(folder / "small.png", np.ones((10, 10), np.uint8))
    (folder / "text.mp4").write_text("no video")
    write_clip(folder / "video.mp4", [paint(kinds(index)) for index in range(FRAMES)])
    for video, options, told in (
        ("frames", [folder / "none.png"], "none.png"),
        ("frames", [folder / "empty.png"], "no object"),
        ("frames", [folder / "small.png"], "10x10"),
        ("frames", [first, f"0={first}"], "two masks"),
        ("frames", [f"x={first}"], "NUMBER=FILE"),
        ("frames", [f"run=1/{first.name}"], f"run=1/{first.name} is neither a file nor NUMBER=FILE"),
        ("none.mp4", [first], "none.mp4"),
        ("text.mp4", [first], "text.mp4"),
        ("frames", [first, f"99={first}"], f"{FRAMES} frames"),
        ("video.mp4", [first, f"99={first}"], f"{FRAMES} frames"),
        *(("frames", [first, "--rate", rate], "--rate") for rate in ("2147483648", "0.5", "-1", "nan", "1/0", "x")),
    ):
        require_refusal(run(folder, video, "--mask", *options), told)
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("protocol", "compact"), [([], True), (["--protocol", "liir"], True), (["--protocol", "crw"], False)]
)
def test_the_default_checkpoint_comes_with_its_flags(protocol, compact):
    """The prior is LIIR's: another protocol must not be refused for a flag that nobody passed."""
    with patch.object(sys, "argv", ["propagate.py", "video.mp4", "--mask", "first.png", *protocol]):
        arguments = propagate.parse_arguments()
    assert arguments.usemomen
    assert arguments.compact == compact


@pytest.mark.parametrize("options", [["--max_side", "32", "--protocol", "dino"]])
def test_a_size_that_the_protocol_sets_itself(folder, options):
    require_refusal(run(folder, "frames", "--mask", folder / "first.png", *options), "--max_side")
    assert not (folder / "results").exists()
