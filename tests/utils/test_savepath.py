"""The folder of a run is created, continued, refused, overwritten and locked; files are written whole."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
from filelock import FileLock

import evaluate_davis
import evaluate_jhmdb
import evaluate_vip
import evaluate_youtube_vos
from tests.support.files import files
from tests.support.repository import ROOT
from utils.errors import UserError
from utils.savepath import open_savepath, read_json, write_csv, write_json, write_text

ARGUMENTS = {"year": 2017, "set": "val", "sequences": None, "names": ["a", "b"]}


def take(path: Path, arguments: dict = ARGUMENTS, *, overwrite: bool = False, outputs=("masks", "*.csv")) -> None:
    """Begin and end a run in the folder."""
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
    """A refusal leaves nothing that makes the folder look like a run's."""
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
    """The link is removed, its target is kept."""
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


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_the_run_goes_on_with_a_warning(number, savepath, capsys):
    """As on some network file systems."""
    with patch("fcntl.flock", side_effect=OSError(number, os.strerror(number))):
        take(savepath)
    assert "cannot be locked" in capsys.readouterr().err
    take(savepath)


def test_a_lock_does_not_outlive_the_run_in_a_child_process(savepath):
    with open_savepath(savepath, ARGUMENTS, outputs=(), overwrite=False):
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        take(savepath)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_what_cannot_be_deleted_is_named(savepath):
    take(savepath)
    (savepath / "masks").mkdir()
    (savepath / "table.csv").write_text("1")
    failure = OSError(errno.EBUSY, "Device or resource busy")
    with patch("shutil.rmtree", side_effect=failure), pytest.raises(UserError, match=r"masks: cannot be deleted.*busy"):
        take(savepath, overwrite=True)
    with patch.object(Path, "unlink", side_effect=failure), pytest.raises(UserError, match=r"table\.csv: cannot be"):
        take(savepath, overwrite=True)


@pytest.mark.parametrize("script", [evaluate_davis, evaluate_jhmdb, evaluate_vip, evaluate_youtube_vos])
def test_records_are_deleted_first(script):
    """An --overwrite that is interrupted leaves no record of a video whose masks are gone."""
    assert script.OUTPUTS[0] == "sequences"


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


def test_csv(tmp_path):
    """Numbers in full, as Python writes them; what holds the format's own signs in quotes."""
    path = tmp_path / "table.csv"
    write_csv(path, [{"Sequence": "bear_1", "J-Mean": 0.1 + 0.2}, {"Sequence": 'a "b", c', "J-Mean": float("nan")}])
    assert path.read_bytes() == b'Sequence,J-Mean\nbear_1,0.30000000000000004\n"a ""b"", c",nan\n'
    with path.open(newline="") as file:
        assert [row["Sequence"] for row in csv.DictReader(file)] == ["bear_1", 'a "b", c']
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("failing", ["write_text", "replace"])
def test_failed_write_keeps_what_was_there(tmp_path, failing):
    path = tmp_path / "record.json"
    write_json(path, {"good": 1})
    with patch.object(Path, failing, side_effect=OSError(28, "No space left on device")), pytest.raises(UserError):
        write_text(path, "{")
    assert read_json(path) == {"good": 1}


def test_text_is_utf_8_whatever_the_locale(tmp_path):
    """Names of files need not be; their bytes are escaped."""
    code = r"import pathlib, sys, utils.savepath as s; s.write_text(pathlib.Path(sys.argv[1]), '\xe9\udcff')"
    settings = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, tmp_path / "a"], env=settings, check=True)
    assert (tmp_path / "a").read_text(encoding="utf-8") == r"é\udcff"


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
