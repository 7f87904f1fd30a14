"""Miniature DAVIS folders, and evaluate_davis.py run on them."""

import os
import subprocess
import sys
from pathlib import Path

import evaluate_davis
from tests.support.commands import Outcome, run_script
from tests.support.images import frame_pixels, mask_pixels, write_frame
from utils.visualize import write_mask

SCRIPT = Path(evaluate_davis.__file__).resolve()


def evaluate(*arguments: object) -> Outcome:
    """Run evaluate_davis.py in this process."""
    return run_script(evaluate_davis, *arguments)


def evaluate_process(*arguments: object) -> Outcome:
    """Run evaluate_davis.py in a process of its own."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}  # as `one_thread`
    result = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=600)
    return Outcome(result.returncode, result.stdout, result.stderr)


def frame_path(root: Path, name: str, index: int, suffix: str = ".jpg") -> Path:
    return root / "JPEGImages" / "480p" / name / f"{index:05d}{suffix}"


def mask_path(root: Path, name: str, index: int) -> Path:
    return root / "Annotations" / "480p" / name / f"{index:05d}.png"


def list_path(root: Path, year: int = 2017, subset: str = "val") -> Path:
    return root / "ImageSets" / str(year) / f"{subset}.txt"


def write_sequence(
    root: Path,
    name: str,
    frames: int = 3,
    *,
    objects: tuple[int, ...] = (1,),
    masks: int | None = None,
    suffix: str = ".jpg",
) -> None:
    """The frames of a sequence, and the masks of the first `masks` of them or of all."""
    for index in range(frames):
        write_frame(frame_path(root, name, index, suffix), frame_pixels(index))
    for index in range(frames if masks is None else masks):
        path = mask_path(root, name, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path, mask_pixels(index, objects))


def write_davis(
    root: Path, names: tuple[str, ...] = ("bear",), frames: int = 3, *, year: int = 2017, **settings: object
) -> Path:
    """A DAVIS folder of equal sequences; settings: those of `write_sequence`."""
    for name in names:
        write_sequence(root, name, frames, **settings)
    write_list(root, "".join(f"{name}\n" for name in names).encode(), year=year)
    return root


def write_list(root: Path, content: bytes, *, year: int = 2017, subset: str = "val") -> Path:
    """Write the list of sequences."""
    path = list_path(root, year, subset)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_predictions(folder: Path, name: str = "bear", frames: int = 3, objects: tuple[int, ...] = (1,)) -> Path:
    """Perfect predictions, DIR/SEQUENCE/00000.png."""
    for index in range(frames):
        path = folder / name / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path, mask_pixels(index, objects))
    return folder
