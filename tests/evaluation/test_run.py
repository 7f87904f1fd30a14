"""The folder of an evaluation: the same command continues, another one is refused, --overwrite starts anew."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

from evaluate_davis import OUTPUTS
from evaluation.features import FeatureOptions
from evaluation.run import Run, open_run
from tests.support.checkpoints import weights, write_checkpoint
from tests.support.commands import require_refusal, require_success
from tests.support.davis import (
    evaluate,
    evaluate_process,
    frame_path,
    mask_path,
    write_list,
    write_predictions,
    write_sequence,
)
from tests.support.files import files, halve, touch
from utils.distributed import World

CPU = torch.device("cpu")


def test_same_command_continues(command, savepath):
    stdout = require_success(command())
    before = {path: path.stat().st_mtime_ns for path in (savepath / "benchmark").rglob("*")}
    assert require_success(command()) == stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_same_folders_by_another_path_continue(command, checkpoint, data, savepath, monkeypatch):
    """Paths are compared resolved, not as spelled."""
    require_success(command())
    monkeypatch.chdir(data.parent)
    outcome = evaluate("--resume", checkpoint, "--datapath", "davis/../davis", "--savepath", "results")
    require_success(outcome)
    assert not (savepath / "results").exists()


class Process(World):
    """One process of several, which need not wait for the others."""

    def agreed(self):
        return nullcontext()

    def gather(self, part):
        return part


def test_finished_videos_are_done_and_no_work_for_any_process(savepath):
    def run_of(rank: int = 0, size: int = 1) -> Run:
        return Run(savepath, Process(rank, size, CPU), SimpleNamespace(device=CPU), {}, ())

    lengths = {"a": 9, "b": 5, "c": 5}
    videos = [SimpleNamespace(name=name, frames=[Path()] * lengths[name], inputs=()) for name in lengths]
    run_of().keep(videos[0], {"frames": 9})
    run = run_of()
    assert list(run.unfinished(videos)) == videos[1:]
    assert run.finished == {"a": {"frames": 9}}
    assert (run.bar.n, run.bar.total) == (9, 19)
    assert [list(run_of(rank, 2).unfinished(videos)) for rank in range(2)] == [[videos[1]], [videos[2]]]


def test_soft_labels_are_remembered_where_they_are_asked_for(checkpoint, savepath):
    same = {"compact": False, "usemomen": False, "ref": 0, "encoder": None, "protocol": None}
    options = FeatureOptions(checkpoint, **same, device="cpu", backend="native", amp=False, tf32=False)
    with open_run(options, savepath, {}, (), (), overwrite=False, soft=True) as run:
        assert run.features.protocol.soft


def test_the_report_of_an_earlier_run_goes(command, savepath):
    require_success(command("--report"))
    assert (savepath / "report.html").exists()
    require_success(command())
    assert not (savepath / "report.html").exists()


def test_sequence_that_is_added_to_the_list_is_all_that_is_computed(command, data, savepath):
    write_list(data, b"bear\n")
    require_success(command())
    before = {path: path.stat().st_mtime_ns for path in (savepath / "benchmark/bear").iterdir()}
    write_list(data, b"bear\ncow\n")
    assert "cow_1" in require_success(command())
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_argument_is_refused(command, savepath, data):
    require_success(command())
    before = files(savepath)
    write_list(data, b"bear\n", year=2016)
    for arguments, name in (
        (["--compact"], "compact"),
        (["--ref", "1"], "ref"),
        (["--sequences", "bear"], "sequences"),
        (["--overlay"], "overlay"),
        (["--year", "2016"], "year"),
    ):
        require_refusal(command(*arguments), f"--savepath {savepath}", f"{name} was", "--overwrite")
    assert files(savepath) == before


@pytest.mark.parametrize("change", ["frame", "mask", "frames added", "frames removed"])
def test_a_finished_video_of_other_files_is_refused(change, command, data, savepath):
    """The line names the file; the other videos, and with --overwrite this one, are computed."""
    require_success(command())
    before = files(savepath)
    if change == "frame":
        touch(frame_path(data, "cow", 1))
        told = f"{frame_path(data, 'cow', 1)} was modified"
    elif change == "mask":
        touch(mask_path(data, "cow", 2))
        told = f"{mask_path(data, 'cow', 2)} was modified"
    elif change == "frames added":
        write_sequence(data, "cow", frames=5)
        told = "files differ"
    else:
        frame_path(data, "cow", 2).unlink()
        told = f"{frame_path(data, 'cow', 2)} was removed"
    require_refusal(command(), f"--savepath {savepath}: cow", told, "--overwrite")
    assert files(savepath) == before
    assert command("--overwrite").code == 0  # with frames removed, a warning that cow is too short to be scored
    assert command().code == 0


def test_masks_of_an_unfinished_video_that_was_longer_go(command, data, savepath):
    write_sequence(data, "cow", frames=8)
    require_success(command("--overlay"))
    (savepath / "sequences" / "cow.json").unlink()
    for index in range(4, 8):
        frame_path(data, "cow", index).unlink()
    require_success(command("--overlay"))
    assert len([*(savepath / "benchmark" / "cow").iterdir()]) == 4


def test_a_video_that_an_earlier_version_finished_is_kept_with_a_warning(command, savepath):
    require_success(command())
    record = savepath / "sequences" / "cow.json"
    content = json.loads(record.read_text())
    del content["inputs"]
    record.write_text(json.dumps(content))
    outcome = command()
    (warning,) = outcome.starting("warning: ")
    assert outcome.code == 0
    assert "finished cow;" in warning
    assert json.loads(record.read_text()) == content


def test_input_files_are_not_in_the_results(command, savepath):
    require_success(command())
    require_success(command())
    assert "inputs" not in (savepath / "results.json").read_text()


def test_another_checkpoint_under_the_same_name_is_refused(data, savepath, tmp_path):
    path = write_checkpoint(tmp_path / "weights.pt")
    command = ("--resume", path, "--datapath", data, "--savepath", savepath, "--sequences", "bear")
    require_success(evaluate(*command))
    before = files(savepath)
    write_checkpoint(path, weights(1))
    require_refusal(evaluate(*command), f"--savepath {savepath}", "checkpoint_sha256 was")
    assert files(savepath) == before
    require_success(evaluate(*command, "--overwrite"))
    assert files(savepath)["benchmark/bear/00002.png"] != before["benchmark/bear/00002.png"]


def test_overwrite_of_a_run_spares_the_users_files(command, savepath):
    require_success(command("--overlay"))
    for name in ("notes.txt", "mine/00000.png"):
        (savepath / name).parent.mkdir(exist_ok=True)
        (savepath / name).write_text("mine")
    require_success(command("--sequences", "cow", "--overwrite"))
    contents = files(savepath)
    assert contents["notes.txt"] == contents["mine/00000.png"] == b"mine"
    assert {name for name in contents if "mine" not in name} == {
        *("notes.txt", "run.json", "results.json", "global_results-val.csv", "per-sequence_results-val.csv"),
        *(f"benchmark/cow/{index:05d}.png" for index in range(3)),
        "sequences/cow.json",
    }


def test_every_output_of_a_run_is_known(command, savepath):
    """Else --overwrite would leave some behind."""
    require_success(command("--overlay"))
    known = {path for pattern in ("run.json", ".lock", *OUTPUTS) for path in savepath.glob(pattern)}
    assert set(savepath.iterdir()) == known
    assert not [name for name in files(savepath) if name.endswith(".part")]


def test_foreign_folder_is_refused_on_the_command_line(command, savepath):
    savepath.mkdir()
    (savepath / "thesis.tex").write_text("mine")
    require_refusal(command(), f"--savepath {savepath}")
    assert files(savepath) == {"thesis.tex": b"mine"}


@pytest.mark.parametrize(
    "mistake", [["--resume", "none.pt"], ["--device", "none"], ["--sequences", "wolf"], ["--ref", 9]]
)
def test_overwrite_with_a_mistake_deletes_nothing(command, savepath, mistake):
    require_success(command("--sequences", "bear"))
    before = files(savepath)
    require_refusal(command("--overwrite", *mistake))
    assert files(savepath) == before


def test_overwrite_spares_the_predictions_it_is_to_score(command, data, savepath):
    """Scoring a run's masks into its own folder is refused, and does not delete them with --overwrite."""
    require_success(command())
    masks = files(savepath / "benchmark")
    arguments = ("--predictions", savepath / "benchmark", "--datapath", data, "--savepath", savepath)
    require_refusal(evaluate(*arguments), f"--savepath {savepath}")
    outcome = evaluate(*arguments, "--overwrite")
    assert files(savepath / "benchmark") == masks
    if outcome.code:
        require_refusal(outcome, savepath)


@pytest.mark.parametrize("content", [b'{"frames": 3', b"[]", b"{}", b'{"frames": 3}'])
def test_damaged_record_of_a_sequence(command, savepath, content):
    record = savepath / "sequences/bear.json"
    require_success(command("--sequences", "bear"))
    record.write_bytes(content)
    require_refusal(command("--sequences", "bear"), record, "--overwrite")


def test_masks_of_an_unfinished_sequence_are_computed_again(command, savepath):
    """A killed run leaves masks without a record; one of them may be truncated."""
    require_success(command("--savepath", savepath / "undisturbed"))
    require_success(command("--savepath", savepath / "killed"))
    (savepath / "killed/sequences/cow.json").unlink()
    halve(savepath / "killed/benchmark/cow/00001.png")
    require_success(command("--savepath", savepath / "killed"))
    assert files(savepath / "killed/benchmark") == files(savepath / "undisturbed/benchmark")


def test_scores_of_other_predictions_are_refused(data, savepath, tmp_path):
    command = ("--datapath", data, "--sequences", "bear", "--savepath", savepath, "--predictions")
    require_success(evaluate(*command, write_predictions(tmp_path / "one")))
    require_refusal(evaluate(*command, write_predictions(tmp_path / "two")), "predictions was", "one", "two")


def test_the_report_of_other_predictions_goes(data, savepath, tmp_path):
    command = ("--datapath", data, "--sequences", "bear", "--savepath", savepath)
    predictions = "--predictions", write_predictions(tmp_path / "masks")
    require_success(evaluate(*command, *predictions, "--report"))
    require_success(evaluate(*command, *predictions))
    assert not (savepath / "report.html").exists()


def test_scores_are_computed_again(data, savepath, tmp_path):
    """Given predictions may have changed: the same command scores them again."""
    command = ("--datapath", data, "--sequences", "bear", "--savepath", savepath, "--predictions")
    folder = write_predictions(tmp_path / "masks")
    assert "J&F 100.0" in require_success(evaluate(*command, folder))
    (folder / "bear/00000.png").replace(folder / "bear/00001.png")
    assert "J&F 100.0" not in require_success(evaluate(*command, folder))


def test_second_run_is_refused_while_one_holds_the_folder(checkpoint, data, savepath):
    """With --overwrite too."""
    arguments = ("--resume", checkpoint, "--datapath", data, "--savepath", savepath)
    require_success(evaluate(*arguments))
    before = files(savepath)
    with FileLock(savepath / ".lock"):
        require_refusal(evaluate_process(*arguments, "--overwrite"), f"--savepath {savepath}", "another run")
    assert files(savepath) == before
