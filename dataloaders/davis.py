"""DAVIS-2016 and DAVIS-2017: sequences, their frames and their masks (docs/method.md §9)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataloaders.frames import list_frames, read_frame, read_frames, require_size
from dataloaders.layout import require_layout
from dataloaders.lists import read_list
from dataloaders.masks import read_binary_mask, read_mask
from dataloaders.names import in_order, some, visible
from utils.errors import UserError

RESOLUTION = "480p"
VOID = 255  # "ignore" in DAVIS-2017, the object in DAVIS-2016


@dataclass(frozen=True)
class Sequence:
    """One video of the benchmark; masks: one file per frame, or only that of the first frame."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    binary: bool  # DAVIS-2016: all pixels that are not 0 are one object

    @property
    def unscored(self) -> str:
        """Why predictions cannot be scored; empty if they can."""
        if len(self.frames) <= 2:
            return "has fewer than three frames, of which the first and the last are not scored"
        return "has no true mask but the first one" if len(self.masks) < len(self.frames) else ""

    @property
    def scored(self) -> bool:
        """Whether predictions can be scored: every frame has a mask, and there are at least three frames."""
        return not self.unscored

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files from which masks and scores are computed."""
        return *self.frames, *self.masks

    def read_mask(self, index: int) -> np.ndarray:
        """Read the object ids of a frame, uint8 [H, W], 0 the background."""
        return read_ids(self.masks[index], binary=self.binary, among=self.masks)

    def first_mask(self) -> np.ndarray:
        """Read the object ids of the first frame, uint8 [H, W]; UserError if it has no object or another size."""
        mask = self.read_mask(0)
        require_size(self.masks[0], mask, read_frame(self.frames[0]).shape[:2])
        if not mask.any():
            way_out = "add one" if self.binary else "255 is 'ignore' in DAVIS-2017: use --year 2016 for binary masks"
            raise UserError(f"{self.masks[0]}: the first mask has no object; {way_out}")
        return mask

    def read_frames(self) -> Iterator[np.ndarray]:
        """Yield the frames, BGR uint8 [H, W, 3]; UserError unless all have the size of the first one."""
        return read_frames(self.frames)


def read_ids(path: Path, *, binary: bool, among: Iterable[Path] = ()) -> np.ndarray:
    """Read the object ids of a mask file, uint8 [H, W]; among: as in `read_mask`."""
    if binary:
        return read_binary_mask(path)
    ids = read_mask(path, among=among)
    return np.where(ids == VOID, 0, ids).astype(np.uint8)


def load_sequences(root: Path, year: int, subset: str, names: list[str] | None = None) -> list[Sequence]:
    """Load the sequences of `ImageSets/<year>/<subset>.txt`, or those of `names`, in the order of the file."""
    listed = list_sequences(root, year, subset)
    if unknown := [name for name in names or [] if name not in listed]:
        raise UserError(
            f"--sequences {','.join(unknown)}: not in the {subset} set of {year}; it has {', '.join(listed)}"
        )
    return [_load_sequence(root, name, binary=year == 2016) for name in listed if names is None or name in names]


def list_sequences(root: Path, year: int, subset: str) -> list[str]:
    """Read the sequence names in `ImageSets/<year>/<subset>.txt`."""
    require_layout("davis", root, year=year)
    if subset != Path(subset).name:
        raise UserError(f"--set {subset}: must be the plain name of a list in ImageSets/{year}, without .txt")
    path = root / "ImageSets" / str(year) / f"{subset}.txt"
    return read_list(path, way_out="check --datapath, --year and --set")


def _load_sequence(root: Path, name: str, *, binary: bool) -> Sequence:
    frames = list_frames(root / "JPEGImages" / RESOLUTION / name)
    folder = root / "Annotations" / RESOLUTION / name
    masks = [folder / f"{frame.stem}.png" for frame in frames]
    existing = set(folder.iterdir()) if folder.is_dir() else set()
    missing = [mask for mask in masks if mask not in existing]
    if masks[0] in missing:
        raise UserError(f"{masks[0]}: no such file; the first frame of {name} needs a mask to propagate")
    if missing and len(missing) < len(masks) - 1:
        raise UserError(f"{missing[0]}: no such file; {name} needs a mask for every frame, or only for the first one")
    return Sequence(name, tuple(frames), tuple(masks[:1] if missing else masks), binary)


def list_predictions(folder: Path, sequence: Sequence) -> list[Path]:
    """List the predicted masks of a sequence in a folder, one per frame; UserError if one is missing.

    The first one, which is given, need not exist; nor the last one, which is then not in the list.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of predicted masks; select existing ones with --sequences")
    masks = [folder / f"{frame.stem}.png" for frame in sequence.frames]
    existing = set(visible(folder))
    for mask in masks[1:-1]:
        if mask not in existing:
            there = some(in_order(path.name for path in existing)) or "nothing"
            raise UserError(f"{mask}: no such file; {sequence.name} needs one named as each frame, but has {there}")
    return masks if masks[-1] in existing else masks[:-1]
