"""The results folder of a run: locked, continued by the same command, never shared with a different run."""

import csv
import io
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from utils.errors import UserError

RECORD = "run.json"  # the arguments of the run in the folder
LOCK = ".lock"
PARTIAL = ".part"  # suffix of a file that is being written
WAY_OUT = "choose another folder or pass --overwrite"


@contextmanager
def open_savepath(
    path: Path, arguments: dict, *, outputs: Iterable[str], overwrite: bool, way_out: str = WAY_OUT
) -> Iterator[Path]:
    """Lock the folder `path` for a run with these arguments (JSON values) in the context; UserError if not possible.

    A folder that is new, empty or contains only folders of other runs is used. A run with the same arguments is
    continued; any other is refused, naming the `way_out`, unless `overwrite`, which first deletes its `outputs` (glob
    patterns) only.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / LOCK).touch()
    except OSError as error:
        raise UserError(f"--savepath {path}: cannot be written to ({error.strerror}); choose another folder") from error
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"--savepath {path}: another run is writing there; wait or choose another folder") from error
    try:
        _claim(path, json.loads(json.dumps(arguments)), outputs, overwrite, way_out)
        yield path
    finally:
        lock.release()


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
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        write_json(path / RECORD, arguments)
    else:
        _require_same(path, arguments, way_out)


def _require_same(path: Path, arguments: dict, way_out: str) -> None:
    earlier = read_json(path / RECORD)
    differing = [name for name in {**earlier, **arguments} if earlier.get(name) != arguments.get(name)]
    if differing:
        changes = ", ".join(f"{name} was {earlier.get(name)}, is {arguments.get(name)}" for name in differing)
        raise UserError(f"--savepath {path}: has another run ({changes}); {way_out}")


def read_json(path: Path) -> dict:
    """Read a JSON object that a run wrote; UserError if the file is damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); pass --overwrite to start again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged (not an object); pass --overwrite to start again")
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
    """Write a text file atomically."""
    with writing(path), replacing(path) as partial:
        partial.write_text(text)


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
