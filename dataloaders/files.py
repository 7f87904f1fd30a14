"""Reading of text and JSON files; a file that cannot be read or is invalid raises UserError."""

import json
import stat
from pathlib import Path
from typing import Any

from utils.errors import UserError

WAY_OUT = "check the path, or replace the file"


def read_bytes(path: Path, *, way_out: str = WAY_OUT) -> bytes:
    """Read a whole file; UserError if it does not exist or cannot be read."""
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(f"{path}: not a file but a pipe or a device; {way_out}")  # reading might block forever
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {way_out}") from error
    except OSError as error:  # a folder, missing permissions, a failing disk
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); {way_out}") from error


def read_text(path: Path, *, way_out: str = WAY_OUT) -> str:
    """Read a whole UTF-8 text file, with or without a byte order mark."""
    try:
        return read_bytes(path, way_out=way_out).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8 ({error}); {way_out}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file; UserError if it is not valid JSON or has duplicate keys."""
    try:
        return json.loads(read_text(path), object_pairs_hook=_require_unique_keys)
    except ValueError as error:
        raise UserError(f"{path}: is not JSON that can be read ({error}); replace it") from error
    except RecursionError as error:
        raise UserError(f"{path}: is not JSON that can be read (nested too deeply); replace it") from error


def require_plain(path: Path, name: str) -> None:
    """Raise UserError unless a name read from a file is a plain file or folder name, without path separators."""
    if name in ("", ".", "..") or any(sign in name for sign in "/\\\0"):
        raise UserError(f"{path}: {name!r} is not the plain name of a file or folder")


def _require_unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return content
