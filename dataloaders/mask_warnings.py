"""Warnings of masks whose ids are probably not those that were meant."""

from pathlib import Path

import numpy as np

from dataloaders.names import some
from utils.errors import warn
from utils.palette import davis_palette

MIXED_IDS = 2  # as many ids of mixed pixels are no coincidence
LEAST = 3  # pixels of such an id

_told: set[tuple[Path, str]] = set()


def warn_once(path: Path, message: str, kind: str = "") -> None:
    """Warn of a mask; once per folder for the same message, or for the same kind of message."""
    if (path.parent, kind or message) not in _told:
        _told.add((path.parent, kind or message))
        warn(f"{path}: {message}")


def warn_of_palette(path: Path, ids: np.ndarray, palette: np.ndarray) -> None:
    """Warn if a palette [256, 3] shows the ids [H, W] of a mask in colours that DAVIS has for other ids."""
    used = np.flatnonzero(np.bincount(ids.ravel())).tolist()
    numbers = {tuple(colour): number for number, colour in enumerate(davis_palette().tolist())}
    meant = {number: numbers.get(tuple(palette[number].tolist())) for number in used}
    others = [f"{number} in that of {other}" for number, other in meant.items() if other not in (number, None)]
    grey = (palette[used] == palette[used, :1]).all()
    permuted = others and not grey and None not in meant.values()
    black_object = meant.get(0, 0) != 0 and 0 in meant.values()
    if permuted or black_object:
        warn_once(
            path,
            f"its palette shows ids in DAVIS' colours of others: {some(others)}; ids are the indices of the palette: "
            "if the colours are meant, convert the mask to RGB",
            "palette",
        )


def warn_of_blur(path: Path, ids: np.ndarray) -> None:
    """Warn if ids [H, W] are mixed with others pixel by pixel, as where anti-aliasing or dithering made them."""
    if len(mixed := mixed_ids(ids)) >= MIXED_IDS:
        counts = np.bincount(ids.ravel(), minlength=256)
        named = some([f"{number} with {counts[number]} pixels" for number in mixed])
        warn_once(
            path,
            f"{len(mixed)} of its {np.count_nonzero(counts[1:])} objects are scattered pixels between others: {named}; "
            "unless they are meant, save the mask without anti-aliasing and dithering",
            "blur",
        )


def mixed_ids(ids: np.ndarray) -> list[int]:
    """List the ids most of whose pixels lie in no 2×2 square of the id, and are isolated or touch two other ids."""
    counts = np.bincount(ids.ravel(), minlength=256)
    if np.count_nonzero(counts) <= MIXED_IDS:
        return []
    square = (ids[:-1, :-1] == ids[1:, 1:]) & (ids[:-1, :-1] == ids[1:, :-1]) & (ids[:-1, :-1] == ids[:-1, 1:])
    solid = np.zeros(ids.shape, bool)
    for corner in (np.s_[:-1, :-1], np.s_[:-1, 1:], np.s_[1:, :-1], np.s_[1:, 1:]):
        solid[corner] |= square
    candidates = (counts >= LEAST) & (2 * np.bincount(ids[~solid], minlength=256) > counts)
    candidates[0] = False
    if not candidates.any() or not solid.any():
        return []
    rows, columns = np.nonzero(~solid & candidates[ids])
    padded = np.pad(ids, 1, mode="edge")
    around = np.stack([padded[rows + row, columns + column] for row in range(3) for column in range(3)], 1)
    isolated = (around[:, 1::2] != around[:, 4:5]).all(1)  # the neighbours above, below, left and right
    between = (np.diff(np.sort(around, 1), axis=1) != 0).sum(1) > 1
    mixed = np.bincount(around[isolated | between, 4], minlength=256)
    return np.flatnonzero(candidates & (2 * mixed > counts)).tolist()
