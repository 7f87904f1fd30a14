"""The folder a run writes to: one run at a time, continued by the same command, never mixed with another."""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from utils.errors import UserError

RECORD = "run.json"  # what the run in the folder was started with
LOCK = ".lock"
PARTIAL = ".part"  # ends the name of a file that is being written


@contextmanager
def open_savepath(path: Path, arguments: dict, *, outputs: Iterable[str], overwrite: bool) -> Iterator[Path]:
    """Hold the folder `path` for a run with these arguments (JSON values) while in the context.

    A folder that is new, or holds nothing but other runs' folders, is taken. One whose run had the same arguments is
    continued; another is refused, unless `overwrite`, which first deletes that run's `outputs` and nothing else.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / LOCK).touch()
    except OSError as error:
        raise UserError(f"--savepath {path}: cannot be written to ({error.strerror}); name another folder") from error
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"--savepath {path}: another run is writing there; wait for it or name another") from error
    try:
        _claim(path, json.loads(json.dumps(arguments)), outputs, overwrite)
        yield path
    finally:
        lock.release()


def _claim(path: Path, arguments: dict, outputs: Iterable[str], overwrite: bool) -> None:
    if not (path / RECORD).exists():
        ours = {LOCK, RECORD + PARTIAL}  # all that a run leaves that ends before it has a record
        foreign = [entry for entry in path.iterdir() if entry.name not in ours and not (entry / RECORD).exists()]
        if foreign:
            raise UserError(f"--savepath {path}: holds {foreign[0].name}, not of a run; name a new or empty folder")
        write_json(path / RECORD, arguments)
    elif overwrite:
        for name in outputs:
            for found in path.glob(name):
                shutil.rmtree(found) if found.is_dir() and not found.is_symlink() else found.unlink()
        write_json(path / RECORD, arguments)
    else:
        _require_same(path, arguments)


def _require_same(path: Path, arguments: dict) -> None:
    earlier = read_json(path / RECORD)
    differing = [name for name in {**earlier, **arguments} if earlier.get(name) != arguments.get(name)]
    if differing:
        changes = ", ".join(f"{name} was {earlier.get(name)}, is {arguments.get(name)}" for name in differing)
        raise UserError(f"--savepath {path}: holds another run ({changes}); name another, or pass --overwrite")


def read_json(path: Path) -> dict:
    """A JSON object from a file of ours; UserError if it is damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); pass --overwrite to start anew") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged (not an object); pass --overwrite to start anew")
    return content


def write_json(path: Path, content: dict) -> None:
    """A JSON file that is either whole or not there."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_csv(path: Path, rows: list[dict]) -> None:
    """A CSV file of rows with the same names, which are its header; either whole or not there."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    write_text(path, "".join(",".join(map(str, line)) + "\n" for line in lines))


def write_text(path: Path, text: str) -> None:
    """A text file that is either whole or not there."""
    with writing(path), replacing(path) as partial:
        partial.write_text(text)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """While a file is written: its folder is there, and a disk that is full or read-only is the user's error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written ({reason}); what was finished before is kept") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write, which becomes the one at `path` when it is whole, and else is deleted."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with suppress(OSError):  # what fails to be written may fail to be deleted
            partial.unlink()
        raise
