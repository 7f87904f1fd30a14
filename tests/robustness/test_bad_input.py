"""A user's mistakes with evaluate_davis.py: one line, exit code 2, and finished results are kept."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate_davis
from tests.support.commands import Outcome, require_refusal, require_success, require_warning
from tests.support.davis import (
    evaluate,
    evaluate_process,
    frame_path,
    list_path,
    mask_path,
    write_list,
    write_predictions,
    write_sequence,
)
from tests.support.files import become_folder, files, halve
from tests.support.images import frame_pixels, mask_pixels, write_frame, write_huge_header
from utils.visualize import write_mask

pytestmark = pytest.mark.usefixtures("one_model")
Command = Callable[..., Outcome]
OTHER_SIZE = (24, 36)


@pytest.fixture
def score(data, savepath, tmp_path) -> Command:
    """The scoring of the masks in `tmp_path / "predictions"`, with more arguments."""
    folder = tmp_path / "predictions"
    for name in ("bear", "cow"):
        write_predictions(folder, name)
    return lambda *more: evaluate("--predictions", folder, "--datapath", data, "--savepath", savepath, *more)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def become_text(path: Path) -> None:
    path.write_text("this is not an image\n")


def become_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def become_larger_frame(path: Path) -> None:
    write_frame(path, frame_pixels(0, OTHER_SIZE))


def become_larger_mask(path: Path) -> None:
    write_mask(path, mask_pixels(0, size=OTHER_SIZE))


def become_photograph(path: Path) -> None:
    write_frame(path, frame_pixels(0))


def become_bomb(path: Path) -> None:
    """An image that claims more pixels than the decoder takes (OpenCV 2^30, Pillow fewer)."""
    Image.new("P", (8, 8)).save(path, format="PNG")
    write_huge_header(path, 40000)


UNREADABLE = (empty, halve, become_text, become_folder, become_dangling_link, become_bomb)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("damage", UNREADABLE)
def test_damaged_frame(command, data, damage, index):
    frame = frame_path(data, "bear", index)
    damage(frame)
    require_refusal(command(), frame)


@pytest.mark.parametrize("index", [0, 2])
def test_truncated_png_frame(command, data, index):
    shutil.rmtree(data / "JPEGImages/480p/bear")
    write_sequence(data, "bear", suffix=".png")
    frame = frame_path(data, "bear", index, ".png")
    halve(frame)
    require_refusal(command(), frame)


@pytest.mark.parametrize("index", [1, 2])
def test_frame_of_another_size(command, data, index):
    frame = frame_path(data, "bear", index)
    become_larger_frame(frame)
    require_refusal(command(), frame, "36x24", "32x24")


def test_first_frame_of_another_size_than_its_mask(command, data):
    become_larger_frame(frame_path(data, "bear", 0))
    require_refusal(command(), mask_path(data, "bear", 0), "36x24", "32x24")


@pytest.mark.parametrize("damage", [halve, become_larger_frame])
def test_damaged_frame_under_an_overlay(command, data, damage):
    """The unfinished video is closed without a second error."""
    frame = frame_path(data, "bear", 1)
    damage(frame)
    require_refusal(command("--overlay"), frame)


@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize("damage", [*UNREADABLE, become_larger_mask])
def test_damaged_mask(command, data, damage, index):
    mask = mask_path(data, "bear", index)
    damage(mask)
    require_refusal(command(), mask)


@pytest.mark.parametrize("damage", [become_text, become_photograph])
def test_error_of_a_mask_is_readable(command, data, damage):
    """It does not print Python objects."""
    damage(mask_path(data, "bear", 0))
    assert "object at 0x" not in require_refusal(command())


@pytest.mark.parametrize("missing", [(0,), (1,), (2,), (0, 1, 2)])
def test_missing_masks(command, data, missing, savepath):
    """The first mask is always needed; the others all or none (of three frames: neither one alone)."""
    for index in missing:
        mask_path(data, "bear", index).unlink()
    require_refusal(command(), mask_path(data, "bear", missing[0]))
    assert not savepath.exists()


def test_no_annotations_at_all(command, data):
    shutil.rmtree(data / "Annotations")
    require_refusal(command(), data / "Annotations" / "480p")


@pytest.mark.parametrize(("year", "values"), [(2017, (0,)), (2017, (0, 255)), (2016, (0,))])
def test_first_mask_without_objects(command, data, year, values):
    write_list(data, b"bear\n", year=year)
    write_mask(mask_path(data, "bear", 0), np.resize(np.array(values, np.uint8), (24, 32)))
    require_refusal(command("--year", year), mask_path(data, "bear", 0), "no object")


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda folder: [path.unlink() for path in folder.iterdir()]])
def test_sequence_without_frames(command, data, damage, savepath):
    folder = data / "JPEGImages/480p/cow"
    damage(folder)
    require_refusal(command(), folder)
    assert not savepath.exists()


@pytest.mark.parametrize("suffix", [".png", ".jpeg"])
def test_two_frames_for_one_mask(command, data, suffix):
    """00001.jpg and 00001.png would both be written to the mask 00001.png."""
    write_frame(frame_path(data, "bear", 1, suffix), frame_pixels(1))
    require_refusal(command(), data / "JPEGImages/480p/bear", "00001")


LISTS = {
    "empty": (b"", "empty"),
    "blank lines": (b"\n  \r\n\t\n", "empty"),
    "byte order mark only": (b"\xef\xbb\xbf\n", "empty"),
    "Latin-1": (b"b\xe4r\n", "val.txt"),
    "UTF-16": ("bear\n".encode("utf-16"), "val.txt"),
    "missing folder": (b"bear\nwolf\n", "wolf"),
    "parent": (b"bear\n../cow\n", "../cow"),
    "dots": (b"..\n", ".."),
    "dot": (b".\n", "'.'"),
    "subfolder": (b"bear/cow\n", "bear/cow"),
    "absolute": (b"/etc\n", "/etc"),
    "backslash": (rb"..\cow" + b"\n", "cow"),
    "zero byte": (b"bear\0\n", "val.txt"),
    "line of another file": (b"x" * 5000, "xxxx"),
}


@pytest.mark.parametrize("label", LISTS)
def test_bad_list(command, data, label, savepath):
    content, offending = LISTS[label]
    write_list(data, content)
    require_refusal(command(), offending)
    assert not savepath.exists()


def test_missing_list(command, data, savepath):
    list_path(data).unlink()
    require_refusal(command(), list_path(data), "--set")
    assert not savepath.exists()


def test_list_that_is_a_folder(command, data):
    become_folder(list_path(data))
    require_refusal(command(), list_path(data))


ARGUMENTS = {
    "ref": (["--ref", "7"], "--ref"),
    "ref no number": (["--ref", "first"], "--ref"),
    "year": (["--year", "2018"], "--year"),
    "year no number": (["--year", "last"], "--year"),
    "year without list": (["--year", "2016"], "ImageSets/2016"),
    "set": (["--set", "test-dev"], "test-dev.txt"),
    "backend": (["--backend", "nonsense"], "--backend"),
    "device": (["--device", "nonsense"], "--device nonsense"),
    "device without data": (["--device", "meta"], "--device meta"),
    "device of another build": (["--device", "hpu"], "--device hpu"),
    "device index": (["--device", "cpu:-1"], "--device cpu:-1"),
    "unknown sequence": (["--sequences", "bear,wolf"], "--sequences wolf"),
    "no sequence": (["--sequences", ","], "--sequences"),
    "unknown flag": (["--sequence-names", "bear"], "--sequence-names"),
    "stray word": (["bear"], "bear"),
    "flag without value": (["--sequences"], "--sequences"),
    "overlay of predictions": (["--predictions", "masks", "--overlay"], "--overlay"),
    "checkpoint": (["--resume", "no/such.pt"], "no/such.pt"),
    "datapath": (["--datapath", "no/such"], "--datapath no/such"),
    "long datapath": (["--datapath", "x" * 300], "--datapath x"),
    "long checkpoint": (["--resume", "x" * 300], "checkpoint x"),
}


@pytest.mark.parametrize("label", ARGUMENTS)
def test_bad_argument(command, label, savepath):
    """It is refused before anything is written."""
    arguments, offending = ARGUMENTS[label]
    require_refusal(command(*arguments), offending)
    assert not savepath.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_where_there_is_none(command, device, savepath):
    require_refusal(command("--device", device), f"--device {device}")
    assert not savepath.exists()


def test_triton_needs_a_gpu(command, monkeypatch):
    pytest.importorskip("triton", reason="triton is not installed")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    require_refusal(command("--backend", "triton", "--device", "cpu"), "--backend triton", "use native")


def test_backend_that_is_not_installed(command, savepath):
    with patch.dict(sys.modules, {"spatial_correlation_sampler": None}):
        require_refusal(command("--backend", "sampler"), "--backend sampler", "scripts/install_sampler.sh")
    assert not savepath.exists()


def test_datapath_that_is_a_file(checkpoint, tmp_path):
    file = tmp_path / "davis.zip"
    file.write_bytes(b"")
    require_refusal(evaluate("--resume", checkpoint, "--datapath", file), f"--datapath {file}")


def test_set_in_a_subfolder(command, data, savepath):
    """The set's name is part of file names: names that cannot be written are refused before the work."""
    path = write_list(data, b"bear\n", subset="mine/val")
    outcome = command("--set", "mine/val")
    if outcome.code:
        require_refusal(outcome, "mine/val")
        assert not savepath.exists()
    else:
        assert path.exists()
        assert (savepath / "results.json").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below"])
def test_savepath_in_the_way_of_a_file(command, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    require_refusal(command("--savepath", tmp_path / place), f"--savepath {tmp_path / place}")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_savepath_that_cannot_be_written(command):
    require_refusal(command("--savepath", "/proc/x"), "--savepath /proc/x")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind this user")
def test_savepath_that_may_not_be_written(command, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    require_refusal(command("--savepath", folder / "results"), f"--savepath {folder / 'results'}")


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda folder: (shutil.rmtree(folder), folder.write_text("x"))])
@pytest.mark.parametrize("place", ["predictions", "predictions/cow"])
def test_missing_predictions(score, tmp_path, damage, place):
    damage(tmp_path / place)
    require_refusal(score(), tmp_path / place)


def test_one_prediction_missing(score, tmp_path):
    path = tmp_path / "predictions/cow/00001.png"
    path.unlink()
    require_refusal(score(), path, "has 00000.png, 00002.png")


def test_predictions_that_are_the_true_masks(data, savepath):
    folder = data / "Annotations" / "480p"
    outcome = evaluate("--predictions", folder, "--datapath", data, "--savepath", savepath)
    require_warning(outcome, f"--predictions {folder}: has the true masks of bear, cow themselves")


def test_first_prediction_is_not_needed(score, tmp_path):
    (tmp_path / "predictions/cow/00000.png").unlink()
    require_success(score())


def test_last_prediction_is_not_needed(score, tmp_path, savepath):
    """The official measure does not score it; the legacy one, which does, is of the others."""
    write_mask(tmp_path / "predictions/cow/00001.png", mask_pixels(0))  # not perfect
    require_success(score())
    whole = json.loads((savepath / "results.json").read_text())
    for name in ("bear", "cow"):
        (tmp_path / f"predictions/{name}/00002.png").unlink()
    require_warning(score("--report"), "no mask of the last frame of bear, cow")
    results = json.loads((savepath / "results.json").read_text())
    assert results["official"] == whole["official"]
    js = {name: record["objects"]["1"]["J"] for name, record in results["sequences"].items()}
    assert js == {"bear": [1, None], "cow": [whole["sequences"]["cow"]["objects"]["1"]["J"][0], None]}
    assert results["legacy"]["J-Mean"] == (1 + js["cow"][0]) / 2 < 1


def test_prediction_of_an_object_that_the_first_mask_lacks(score, tmp_path, savepath):
    """In two frames of one sequence: one warning, and the scores are those of the other objects."""
    for index in (1, 2):
        write_mask(tmp_path / f"predictions/cow/{index:05d}.png", mask_pixels(index, (1, 7)))
    require_warning(score(), "cow: object 7 is not in its first mask and not scored")
    assert json.loads((savepath / "results.json").read_text())["official"]["J&F-Mean"] == 1


@pytest.mark.parametrize("damage", [*UNREADABLE, become_photograph, become_larger_mask])
def test_damaged_prediction(score, tmp_path, damage):
    path = tmp_path / "predictions/cow/00002.png"
    damage(path)
    require_refusal(score(), path)


@pytest.mark.parametrize("damage", [halve, become_larger_mask])
def test_truth_damaged_under_predictions(score, data, damage):
    """The true mask is blamed, not the prediction."""
    damage(mask_path(data, "cow", 2))
    assert "predictions" not in require_refusal(score(), mask_path(data, "cow", 2))


def test_predictions_of_what_cannot_be_scored(score, data, tmp_path):
    for index in (1, 2):
        mask_path(data, "cow", index).unlink()
    require_warning(score(), "cow", "no true mask")
    require_refusal(score("--sequences", "cow", "--savepath", tmp_path / "cow"), "--predictions")


def test_mistyped_predictions_do_not_claim_the_savepath(data, savepath, tmp_path):
    """Nothing was computed, so the corrected command runs without --overwrite."""
    folder = write_predictions(tmp_path / "predictions")
    command = ("--datapath", data, "--sequences", "bear", "--savepath", savepath, "--predictions")
    require_refusal(evaluate(*command, tmp_path / "predictoins"), "predictoins")
    require_success(evaluate(*command, folder))


def without_times(savepath: Path) -> dict:
    """Everything that a run wrote but times and memory, by path."""
    contents = files(savepath)
    results = json.loads(contents.pop("results.json"))
    records = [json.loads(contents.pop(name)) for name in sorted(contents) if name.startswith("sequences/")]
    for record in (*records, *results["sequences"].values()):
        assert 0 < record.pop("seconds") < record.pop("seconds_in_all")
        assert record.pop("peak_memory") > 0
    for name in ("seconds_per_frame", "peak_memory"):
        del results[name]
    return {"results": results, "records": records, **contents}


def times(folder: Path) -> dict[Path, int]:
    """When each file below a folder was last written."""
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def require_continuation(command: Command, savepath: Path, tmp_path: Path) -> None:
    """Assert that the first sequence is not computed again and that the results are those of an uninterrupted run."""
    kept = {**times(savepath / "benchmark/bear"), **times(savepath / "sequences")}
    assert [path.name for path in kept] == [*(f"{index:05d}.png" for index in range(3)), "bear.json"]
    assert not (savepath / "results.json").exists()
    require_success(command())
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    require_success(command("--savepath", tmp_path / "undisturbed"))
    assert without_times(savepath) == without_times(tmp_path / "undisturbed")


@pytest.mark.parametrize("damage", [empty, halve, become_folder, become_larger_frame])
def test_corrupt_frame_loses_nothing(command, data, savepath, tmp_path, damage):
    frame = frame_path(data, "cow", 1)
    good = frame.read_bytes()
    damage(frame)
    require_refusal(command(), frame)
    frame.rmdir() if frame.is_dir() else frame.unlink()
    frame.write_bytes(good)
    require_continuation(command, savepath, tmp_path)


@pytest.mark.parametrize("index", [0, 2])
def test_corrupt_mask_loses_nothing(command, data, savepath, tmp_path, index):
    mask = mask_path(data, "cow", index)
    good = mask.read_bytes()
    halve(mask)
    require_refusal(command(), mask)
    mask.write_bytes(good)
    require_continuation(command, savepath, tmp_path)


def interrupted_by(error: BaseException) -> object:
    """A context in which the second mask of `cow` cannot be written."""

    def write(path: Path, mask: np.ndarray) -> None:
        if path.match("cow/00001.png"):
            raise error
        write_mask(path, mask)

    return patch.object(evaluate_davis, "write_mask", write)


def test_bug_keeps_its_traceback_and_loses_nothing(command, savepath, tmp_path):
    with interrupted_by(ZeroDivisionError("a bug")), pytest.raises(ZeroDivisionError):
        command()
    require_continuation(command, savepath, tmp_path)


def test_interrupted_run_says_so_and_loses_nothing(command, savepath, tmp_path):
    with interrupted_by(KeyboardInterrupt()):
        outcome = command()
    assert outcome.code == 130
    assert outcome.stderr.endswith("interrupted\n")
    require_continuation(command, savepath, tmp_path)


class TestScript:
    """In a process of its own: exit codes, what native decoders print, worker processes."""

    def test_corrupt_frame(self, checkpoint, data, savepath):
        frame = frame_path(data, "cow", 1)
        halve(frame)
        outcome = evaluate_process("--resume", checkpoint, "--datapath", data, "--savepath", savepath)
        require_refusal(outcome, frame)
        assert (savepath / "sequences/bear.json").exists()

    def test_damaged_prediction(self, data, savepath, tmp_path):
        for name in ("bear", "cow"):
            write_predictions(tmp_path / "predictions", name)
        path = tmp_path / "predictions/cow/00001.png"
        become_photograph(path)
        outcome = evaluate_process(
            "--predictions", tmp_path / "predictions", "--datapath", data, "--savepath", savepath
        )
        require_refusal(outcome, path)

    def test_missing_checkpoint(self, data, savepath, tmp_path):
        path = tmp_path / "none.pt"
        outcome = evaluate_process("--resume", path, "--datapath", data, "--savepath", savepath)
        line = require_refusal(outcome, path)
        assert outcome.stderr == line + "\n"
        assert not savepath.exists()
