"""propagate.py on a user's own video: files and folders, masks named by frame, and mistakes."""

import json
import sys
from fractions import Fraction
from unittest.mock import patch

import av
import numpy as np
import pytest

import propagate
from tests.support.commands import require_refusal, require_success
from tests.support.features import middles, paint
from tests.support.files import touch
from tests.support.user_video import FRAMES, SIZE, kinds, masks, run, write_set
from utils.visualize import VideoWriter, write_mask


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path)


def test_a_folder_of_frames(folder):
    out = require_success(run(folder, "frames", "--mask", folder / "first.png", f"5={folder / 'sixth.png'}"))
    assert out.startswith(f"{FRAMES} frames")
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
    require_success(run(folder, "frames", *command, "--max_side", 32, "--overwrite"))
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
    assert out.startswith(f"{FRAMES} frames")


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
    for video, options, told in (
        ("frames", [folder / "none.png"], "none.png"),
        ("frames", [folder / "empty.png"], "no object"),
        ("frames", [folder / "small.png"], "10x10"),
        ("frames", [first, f"0={first}"], "two masks"),
        ("frames", [f"x={first}"], "NUMBER=FILE"),
        ("none.mp4", [first], "none.mp4"),
        ("text.mp4", [first], "text.mp4"),
        ("frames", [first, f"99={first}"], f"{FRAMES} frames"),
        ("frames", [first, "--rate", "2147483648"], "--rate"),
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
