"""The results folder of a run: locked, continued by the same command, never shared with a different run."""

import csv
import fcntl
import io
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from utils.errors import UserError, warn
from utils.inputs import Inputs, changes

RECORD = "run.json"  # the arguments of the run in the folder, and its `INPUTS`
INPUTS = "inputs"
LOCK = ".lock"
PARTIAL = ".part"  # suffix of a file that is being written
WAY_OUT = "choose another folder or pass --overwrite"


@contextmanager
def open_savepath(
    path: Path,
    arguments: dict,
    *,
    outputs: Iterable[str],
    overwrite: bool,
    inputs: Inputs | None = None,
    way_out: str = WAY_OUT,
) -> Iterator[Path]:
    """Lock the folder `path` for a run with these arguments (JSON values) in the context; UserError if not possible.

    A folder that is new, empty or contains only folders of other runs is used. A run with the same arguments, and the
    same `inputs` if they are given, is continued; any other is refused, naming the `way_out`, unless `overwrite`, which
    first deletes its `outputs` (glob patterns) only.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / LOCK).open("a")
    except OSError as error:
        raise UserError(f"--savepath {path}: cannot be written to ({error.strerror}); choose another folder") from error
    with file, _locked(path, file):
        identity = json.loads(json.dumps(arguments)) | ({} if inputs is None else {INPUTS: inputs})
        try:
            _claim(path, identity, outputs, overwrite, way_out)
        except OSError as error:
            raise UserError(f"--savepath {path}: cannot be used ({error}); choose another folder") from error
        yield path


@contextmanager
def _locked(path: Path, file: IO[str]) -> Iterator[None]:
    """Hold the lock of a results folder, or warn if its file system has no locks; UserError if another run has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # the error of a lock that is held depends on the file system
        raise UserError(f"--savepath {path}: another run is writing there; wait or choose another folder") from error
    except OSError as error:
        warn(f"--savepath {path}: cannot be locked ({error.strerror}); do not start another run there meanwhile")
    try:
        yield
    finally:
        with suppress(OSError):  # there was no lock
            fcntl.flock(file, fcntl.LOCK_UN)  # closing the file does not unlock it while a child process has it


def _claim(path: Path, arguments: dict, outputs: Iterable[str], overwrite: bool, way_out: str) -> None:
    if not (path / RECORD).exists():
        known = {LOCK, RECORD + PARTIAL}  # left by a run that ended before its record was written
        foreign = [entry for entry in path.iterdir() if entry.name not in known and not (entry / RECORD).exists()]
        if foreign:
            raise UserError(f"--savepath {path}: has {foreign[0].name}, not of a run; choose a new or empty folder")
        write_json(path / RECORD, arguments)
    elif overwrite:
        for name in outputs:
            for entry in path.glob(name):
                delete(entry)
        write_json(path / RECORD, arguments)
    else:
        _require_same(path, arguments, way_out)


def _require_same(path: Path, arguments: dict, way_out: str) -> None:
    earlier = read_json(path / RECORD)
    before, now = earlier.pop(INPUTS, {}), arguments.pop(INPUTS, {})
    differing = [name for name in {**earlier, **arguments} if earlier.get(name) != arguments.get(name)]
    told = [f"{name} was {earlier.get(name)}, is {arguments.get(name)}" for name in differing]
    if now and not before:
        told.append("from a version that did not note its input files")
    elif changed := changes(before, now):
        told.append(changed)
    if told:
        raise UserError(f"--savepath {path}: has another run ({', '.join(told)}); {way_out}")


def delete(path: Path) -> None:
    """Delete a file, a link, or a folder with its contents, if it exists; UserError if that fails."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be deleted ({error.strerror or error}); delete it, or choose another --savepath"
        ) from error


def read_json(path: Path, *, way_out: str = "pass --overwrite to start again") -> dict:
    """Read a JSON object that a run wrote; UserError if the file is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); {way_out}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged (not an object); {way_out}")
    return content


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write a CSV file atomically; rows: dicts with the same keys, which become the header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8; names of files that are not, such as "\\udcff", are escaped."""
    with writing(path), replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Context for writing a file: creates its folder, and turns OSError, as from a full disk, into UserError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written ({reason}); what was finished before is kept") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; the file replaces `path` on success and is deleted on failure."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with suppress(OSError):  # deleting may fail as well
            partial.unlink()
        raise
