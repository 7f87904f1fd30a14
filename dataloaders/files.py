"""Files of text read whole, and refused in words when they are not what they should be."""

import json
import stat
from pathlib import Path
from typing import Any

from utils.errors import UserError

WAY_OUT = "check the path, or replace the file"


def read_bytes(path: Path, *, way_out: str = WAY_OUT) -> bytes:
    """All of a file; UserError if there is none."""
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(f"{path}: not a file but a pipe or a device; {way_out}")  # reading may wait, or never end
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {way_out}") from error
    except OSError as error:  # a folder of that name, permissions, a failing disk
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); {way_out}") from error


def read_text(path: Path, *, way_out: str = WAY_OUT) -> str:
    """All of a file's text, with or without the mark that some editors begin it with."""
    try:
        return read_bytes(path, way_out=way_out).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8 ({error}); {way_out}") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds; UserError if it is none, or says two things of one name."""
    try:
        return json.loads(read_text(path), object_pairs_hook=_each_once)
    except ValueError as error:
        raise UserError(f"{path}: is not JSON that can be read ({error}); replace it") from error
    except RecursionError as error:
        raise UserError(f"{path}: is not JSON that can be read (it is too deep); replace it") from error


def require_plain(path: Path, name: str) -> None:
    """UserError unless a name in a file is that of one file or folder, and cannot lead elsewhere."""
    if name in ("", ".", "..") or any(sign in name for sign in "/\\\0"):
        raise UserError(f"{path}: {name!r} is not the plain name of a file or folder")


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content
