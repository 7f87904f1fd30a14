"""Names of files and folders: their natural order, and those that no reader wants."""

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from natsort import natsort_keygen, ns

from utils.errors import UserError

LEFTOVERS = {".ds_store", "thumbs.db", "desktop.ini", "__macosx"}  # of macOS and Windows, in lower case
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
FRACTION = re.compile(r"(?<=\d)\.(\d+)", re.ASCII)


def natural_key(names: Iterable[str]) -> Callable[[str], Any]:
    """Return the sort key that orders these names by the numbers in them, so that 2 comes before 10.

    If all names are plain numbers, they are real numbers with a sign. Otherwise the numbers within names are whole and
    a dash is a separator, unless zero padding shows that they are decimals (t0.04 before t0.1). Names that differ in
    zero padding only have equal keys.
    """
    names = list(names)
    if all(NUMBER.fullmatch(name) for name in names):
        return Decimal
    fractions = [digits for name in names for digits in FRACTION.findall(name)]
    shortest = min(map(len, fractions), default=0)
    decimals = any(digits.startswith("0") and len(digits) > shortest for digits in fractions)
    return natsort_keygen(alg=ns.FLOAT | ns.NOEXP if decimals else ns.INT)


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names by the numbers in them, as `natural_key`."""
    names = list(names)
    return sorted(names, key=natural_key(names))


def is_leftover(name: str) -> bool:
    """Whether macOS or Windows leaves files of this name behind."""
    return name.lower() in LEFTOVERS or name.startswith("._")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden or a leftover."""
    return name.startswith(".") or is_leftover(name)


def visible(folder: Path) -> list[Path]:
    """List the entries of a folder, in no order, without hidden files and leftovers; UserError if it is unreadable."""
    try:
        return [path for path in folder.iterdir() if not is_hidden(path.name)]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror or error}); check its permissions") from error


def some(names: Sequence[str], most: int = 3) -> str:
    """Join the first of some names."""
    return ", ".join(names[:most]) + ", …" * (len(names) > most)
