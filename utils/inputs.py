"""The input files of a run: which they were, and how they have changed since."""

from collections.abc import Iterable
from pathlib import Path

Inputs = dict[str, dict[str, str]]  # folder -> name of a file -> its `_state`
MISSING = "missing"


def describe_inputs(paths: Iterable[Path]) -> Inputs:
    """Describe files by their size and modification time, as JSON values; a file need not exist."""
    folders: dict[Path, dict[str, str]] = {}
    for path in paths:
        folders.setdefault(path.parent, {})[path.name] = _state(path)
    return {str(folder.resolve()): states for folder, states in folders.items()}


def changes(before: Inputs, now: Inputs) -> str:
    """Tell the first difference between two descriptions and the number of others; empty if there is none."""
    earlier, current = _by_path(before), _by_path(now)
    differing = [path for path in {**earlier, **current} if earlier.get(path) != current.get(path)]
    if not differing:
        return ""
    first = differing[0]
    others = f", and {len(differing) - 1} more files differ" if len(differing) > 1 else ""
    return f"{first} {_change(earlier.get(first, MISSING), current.get(first, MISSING))}{others}"


def _state(path: Path) -> str:
    """Return a file's size in bytes and its modification time in nanoseconds."""
    try:
        status = path.stat()
    except OSError:  # whoever reads it says why
        return MISSING
    return f"{status.st_size} {status.st_mtime_ns}"


def _by_path(inputs: Inputs) -> dict[Path, str]:
    return {Path(folder, name): state for folder, states in inputs.items() for name, state in states.items()}


def _change(before: str, now: str) -> str:
    if MISSING in (before, now):
        return "was added" if before == MISSING else "was removed"
    (size, _), (new_size, _) = before.split(), now.split()
    return "was modified" if size == new_size else f"had {size} bytes and has {new_size}"
