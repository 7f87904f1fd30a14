"""Lists of a benchmark's videos, and the choice of some of them."""

from pathlib import Path

from dataloaders.files import read_text, require_plain
from dataloaders.names import is_leftover
from utils.errors import UserError


def read_list(path: Path, *, way_out: str) -> list[str]:
    """Read the lines of a list of videos, without duplicates and leftovers; each must be a folder's plain name."""
    lines = (line.strip() for line in read_text(path, way_out=way_out).splitlines())
    names = list(dict.fromkeys(line for line in lines if line and not is_leftover(line)))
    if not names:
        raise UserError(f"{path}: the list of sequences is empty")
    for name in names:
        require_plain(path, name)
    return names


def choose(listed: list[str], names: list[str] | None, where: Path) -> list[str]:
    """Return the listed videos, or those of `names`; UserError if one of `names` is not listed in the file `where`."""
    if unknown := [name for name in names or [] if name not in listed]:
        raise UserError(f"--videos {','.join(unknown)}: not in {where}")
    return [name for name in listed if names is None or name in names]
