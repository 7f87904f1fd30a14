"""The folder of a run: taken, continued, refused, started anew and locked; and files that are whole or not there."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
from filelock import FileLock

from evaluate_davis import OUTPUTS
from tests.builders import (
    Outcome,
    evaluate,
    evaluate_process,
    files,
    halve,
    require_refusal,
    require_success,
    weights,
    write_checkpoint,
    write_list,
    write_predictions,
)
from utils.errors import UserError
from utils.savepath import open_savepath, read_json, write_json, write_text

Command = Callable[..., Outcome]
ARGUMENTS = {"year": 2017, "set": "val", "sequences": None, "names": ["a", "b"]}


def take(path: Path, arguments: dict = ARGUMENTS, *, overwrite: bool = False, outputs=("masks", "*.csv")) -> None:
    """Begin a run in the folder and end it at once."""
    with open_savepath(path, arguments, outputs=outputs, overwrite=overwrite) as folder:
        assert folder == path


@pytest.mark.parametrize("place", ["new", "new/below/deep", "empty"])
def test_new_or_empty_folder_is_taken(tmp_path, place):
    (tmp_path / "empty").mkdir()
    take(tmp_path / place)
    assert json.loads((tmp_path / place / "run.json").read_text()) == ARGUMENTS


def test_same_arguments_continue(savepath):
    take(savepath)
    (savepath / "table.csv").write_text("1")
    before = files(savepath)
    take(savepath)
    take(savepath, dict(reversed({**ARGUMENTS, "names": ("a", "b")}.items())))
    assert files(savepath) == before


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({**ARGUMENTS, "year": 2016}, ["year", "2017", "2016"]),
        ({**ARGUMENTS, "sequences": ["bear"]}, ["sequences", "bear"]),
        ({**ARGUMENTS, "names": ["b", "a"]}, ["names"]),
        ({**ARGUMENTS, "overlay": True}, ["overlay", "True"]),
        ({name: value for name, value in ARGUMENTS.items() if name != "set"}, ["set", "val"]),
        ({**ARGUMENTS, "year": 2016, "set": "train"}, ["year", "set", "train"]),
    ],
)
def test_other_arguments_are_refused(savepath, changed, told):
    take(savepath)
    (savepath / "table.csv").write_text("1")
    before = files(savepath)
    with pytest.raises(UserError, match="--overwrite") as error:
        take(savepath, changed)
    for part in (f"--savepath {savepath}", *told):
        assert part in str(error.value)
    assert files(savepath) == before


def test_foreign_folder_is_refused(savepath):
    savepath.mkdir()
    (savepath / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=f"--savepath {savepath}"):
        take(savepath)
    assert files(savepath) == {"thesis.tex": b"mine"}


def test_refused_foreign_folder_is_refused_again(savepath):
    """Nothing that the refusal leaves makes the folder look like ours."""
    savepath.mkdir()
    (savepath / "masks").mkdir()
    for _ in range(2):
        with pytest.raises(UserError):
            take(savepath)


def test_overwrite_deletes_nothing_of_a_foreign_folder(savepath):
    (savepath / "masks").mkdir(parents=True)
    (savepath / "masks" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="new or empty"):
        take(savepath, overwrite=True)
    assert files(savepath) == {"masks/mine.txt": b"mine"}


def test_folder_of_other_runs_is_taken(savepath):
    take(savepath / "earlier")
    take(savepath)
    assert files(savepath).keys() == {"run.json", "earlier/run.json"}


def test_overwrite_starts_anew_and_deletes_known_outputs_alone(savepath):
    take(savepath)
    for name in ("masks/bear/00000.png", "val.csv", "mine/val.csv", "masks.txt", "notes.md"):
        (savepath / name).parent.mkdir(parents=True, exist_ok=True)
        (savepath / name).write_text(name)
    take(savepath, {"year": 2016}, overwrite=True)
    assert files(savepath).keys() == {"run.json", "mine/val.csv", "masks.txt", "notes.md"}
    assert json.loads((savepath / "run.json").read_text()) == {"year": 2016}


def test_overwrite_of_what_is_not_there(savepath):
    take(savepath, overwrite=True)
    assert files(savepath).keys() == {"run.json"}


@pytest.mark.parametrize("kind", ["folder", "file", "nothing"])
def test_overwrite_leaves_what_links_point_to(savepath, tmp_path, kind):
    """Masks on a larger disk: the link may go, what is behind it may not without being asked for, and no traceback."""
    take(savepath)
    disk = tmp_path / "disk"
    if kind == "folder":
        disk.mkdir()
        (disk / "film.mp4").write_text("mine")
    elif kind == "file":
        disk.write_text("mine")
    (savepath / "masks").symlink_to(disk)
    before = files(disk) if disk.is_dir() else disk.exists() and disk.read_text()
    take(savepath, overwrite=True)
    assert (files(disk) if disk.is_dir() else disk.exists() and disk.read_text()) == before
    assert not (savepath / "masks").exists()


def test_damaged_record_of_the_run(savepath):
    for content in (b"", b"{", b"[]", b"\xff\xfe", b"null"):
        take(savepath, overwrite=True)
        (savepath / "run.json").write_bytes(content)
        with pytest.raises(UserError, match=r"run\.json"):
            take(savepath)


def test_lock_held_in_this_process(savepath):
    savepath.mkdir()
    with FileLock(savepath / ".lock"), pytest.raises(UserError, match=f"--savepath {savepath}.*another run"):
        take(savepath)
    take(savepath)


def test_lock_is_released_at_the_end_and_after_an_error(savepath):
    for error in (None, UserError("a"), ZeroDivisionError(), KeyboardInterrupt()):
        with (
            nullcontext() if error is None else pytest.raises(type(error)),
            open_savepath(savepath, ARGUMENTS, outputs=(), overwrite=False),
        ):
            with pytest.raises(UserError, match="another run"):
                take(savepath)
            if error is not None:
                raise error
        with FileLock(savepath / ".lock", timeout=0):
            pass


def test_lock_of_a_killed_run_does_not_bar_the_next(savepath):
    holder = hold_lock(savepath)
    with pytest.raises(UserError, match="another run"):
        take(savepath)
    holder.kill()
    holder.wait()
    take(savepath)


def hold_lock(savepath: Path) -> subprocess.Popen:
    """A process that holds the folder's lock."""
    savepath.mkdir(exist_ok=True)
    program = (
        "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); "
        "print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, savepath / ".lock"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    holder.stdout.close()
    return holder


def test_json_is_written_whole(tmp_path):
    path = tmp_path / "record.json"
    for content in ({"a": [1, 2.5, None]}, {"b": "é"}):
        write_json(path, content)
        assert read_json(path) == content
        assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("failing", ["write_text", "replace"])
def test_failed_write_keeps_what_was_there(tmp_path, failing):
    path = tmp_path / "record.json"
    write_json(path, {"good": 1})
    with patch.object(Path, failing, side_effect=OSError(28, "No space left on device")), pytest.raises(UserError):
        write_text(path, "{")
    assert read_json(path) == {"good": 1}


def test_content_that_is_no_json_keeps_what_was_there(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"good": 1})
    with pytest.raises(TypeError):
        write_json(path, {"bad": tmp_path})
    assert read_json(path) == {"good": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"[1]", b"3", b"null", b"\xff", b"\x00"])
def test_damaged_json(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"record\.json.*--overwrite"):
        read_json(path)


def test_same_command_continues(command, savepath):
    stdout = require_success(command())
    before = {path: path.stat().st_mtime_ns for path in (savepath / "benchmark").rglob("*")}
    assert require_success(command()) == stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_same_folders_by_another_path_continue(command, checkpoint, data, savepath, monkeypatch):
    """Not the spelling of a path matters but what it leads to."""
    require_success(command())
    monkeypatch.chdir(data.parent)
    outcome = evaluate("--resume", checkpoint, "--datapath", "davis/../davis", "--savepath", "results")
    require_success(outcome)
    assert not (savepath / "results").exists()


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
    """What --overwrite does not know it would leave behind."""
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
    """Scoring what a run wrote, into the folder of that run: told to pass --overwrite, the user loses the masks."""
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
    """A run that was killed in the middle leaves masks without a record; one of them may be cut."""
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


def test_scores_are_computed_again(data, savepath, tmp_path):
    """Scoring is quick and its masks may have changed: the same command reads them again."""
    command = ("--datapath", data, "--sequences", "bear", "--savepath", savepath, "--predictions")
    folder = write_predictions(tmp_path / "masks")
    assert "J&F 100.0" in require_success(evaluate(*command, folder))
    (folder / "bear/00000.png").replace(folder / "bear/00001.png")
    assert "J&F 100.0" not in require_success(evaluate(*command, folder))


def test_second_run_is_refused_while_one_holds_the_folder(checkpoint, data, savepath):
    """--overwrite does not get past the lock either."""
    arguments = ("--resume", checkpoint, "--datapath", data, "--savepath", savepath)
    require_success(evaluate(*arguments))
    before = files(savepath)
    with FileLock(savepath / ".lock"):
        require_refusal(evaluate_process(*arguments, "--overwrite"), f"--savepath {savepath}", "another run")
    assert files(savepath) == before
