"""The content of folders, and damaged files."""

import os
import re
from pathlib import Path


def halve(path: Path) -> None:
    """Keep the first half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def touch(path: Path) -> None:
    """Change the modification time of a file."""
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder but the lock, by its relative path."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def timeless(folder: Path) -> dict[str, bytes]:
    """What an evaluation has written, without times and memory, by its relative path."""
    contents = {name: content for name, content in files(folder).items() if not name.endswith(".zip")}
    times = rb'"(seconds\w*|peak_memory)": [\d.e-]+|<th>(Speed|Date)</th><td>[^<]*'
    return {name: re.sub(times, b"", content) for name, content in contents.items()}
