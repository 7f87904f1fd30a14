"""Miniature DAVIS folders, checkpoints of the real network, and evaluate_davis.py run in this process."""

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

import evaluate_davis
from functional.color import normalised_lab
from models.liir import LIIR
from utils.errors import run
from utils.visualize import write_mask

SCRIPT = Path(evaluate_davis.__file__).resolve()
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
SIZE = (24, 32)  # height, width
SQUARE = 8  # the side of an object
SHARPNESS = 60  # of the pixel head's random weights: without it every reference weighs alike and nothing moves


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    def starting(self, word: str) -> list[str]:
        """The lines of stderr that begin with a word."""
        return [line for line in self.stderr.splitlines() if line.startswith(word)]


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: on frames this small more are slower, and many times so where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def evaluate(*arguments: object) -> Outcome:
    """Run evaluate_davis.py in this process; a bug raises what it raises."""
    return run_here(evaluate_davis.main, SCRIPT, *arguments)


def run_here(main: Callable[[], None], script: Path, *arguments: object) -> Outcome:
    """Run a script's main function in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    command = [str(script), *map(str, arguments)]
    with one_thread(), patch.object(sys, "argv", command), redirect_stdout(out), redirect_stderr(err):
        try:
            run(main)
        except SystemExit as end:
            code = end.code
    return Outcome(code, out.getvalue(), err.getvalue())


def evaluate_process(*arguments: object) -> Outcome:
    """Run evaluate_davis.py as the user does."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}  # as `one_thread`
    result = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=600)
    return Outcome(result.returncode, result.stdout, result.stderr)


def require_same_when_sharded(script: str | Path, folder: Path, *options: object) -> None:
    """Assert that two processes leave the files that one leaves, but for the time it took."""
    settings, found = {**os.environ, "OMP_NUM_THREADS": "1"}, []
    for name, launch in (("one", ()), ("two", TORCHRUN)):
        command = map(str, [sys.executable, *launch, script, *options, "--savepath", folder / name])
        result = subprocess.run(
            list(command), cwd=SCRIPT.parent, env=settings, capture_output=True, text=True, timeout=900
        )
        assert result.returncode == 0, result.stderr
        found.append(timeless(folder / name))
    assert found[0] == found[1]


def require_refusal(outcome: Outcome, *offending: object) -> str:
    """Assert that a command ended as a user's mistake does, in one line that names what is wrong; that line."""
    errors = outcome.starting("error: ")
    assert outcome.code == 2, outcome
    assert len(errors) == 1, outcome.stderr
    assert outcome.stderr.endswith(errors[0] + "\n"), outcome.stderr
    assert "Traceback" not in outcome.stderr
    for part in offending:
        assert str(part) in errors[0]
    return errors[0]


def require_success(outcome: Outcome) -> str:
    """Assert that a command succeeded without a word of error or warning; its stdout."""
    assert outcome.code == 0, outcome.stderr
    assert "error" not in outcome.stderr
    assert "warning" not in outcome.stderr
    return outcome.stdout


def frame_pixels(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A BGR frame, uint8 [H, W, 3]: two bright squares that move over a smooth background."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    frame = np.stack([40 + 3 * rows, 60 + 2 * columns, 90 + rows + columns], axis=2).astype(np.uint8)
    for number, colour in ((1, (30, 220, 250)), (2, (240, 60, 20))):
        frame[mask_pixels(index, (1, 2), size) == number] = colour
    return frame


def mask_pixels(index: int, objects: tuple[int, ...] = (1,), size: tuple[int, int] = SIZE) -> np.ndarray:
    """The ids of a frame's objects, at most two, uint8 [H, W]."""
    mask = np.zeros(size, np.uint8)
    corners = ((4, 4 + 2 * index), (13, 18 - 2 * index))
    for number, (top, left) in zip(objects, corners, strict=False):
        mask[top : top + SQUARE, left : left + SQUARE] = number
    return mask


def frame_path(root: Path, name: str, index: int, suffix: str = ".jpg") -> Path:
    return root / "JPEGImages" / "480p" / name / f"{index:05d}{suffix}"


def mask_path(root: Path, name: str, index: int) -> Path:
    return root / "Annotations" / "480p" / name / f"{index:05d}.png"


def list_path(root: Path, year: int = 2017, subset: str = "val") -> Path:
    return root / "ImageSets" / str(year) / f"{subset}.txt"


def write_frame(path: Path, pixels: np.ndarray) -> None:
    """A frame in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), pixels):
        raise OSError(f"{path} could not be written")


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
    """A DAVIS folder of sequences that are alike; settings: those of `write_sequence`."""
    for name in names:
        write_sequence(root, name, frames, **settings)
    write_list(root, "".join(f"{name}\n" for name in names).encode(), year=year)
    return root


def write_list(root: Path, content: bytes, *, year: int = 2017, subset: str = "val") -> Path:
    """The list of sequences, as these bytes."""
    path = list_path(root, year, subset)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_predictions(folder: Path, name: str = "bear", frames: int = 3, objects: tuple[int, ...] = (1,)) -> Path:
    """Predicted masks that are all true, DIR/SEQUENCE/00000.png."""
    for index in range(frames):
        path = folder / name / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path, mask_pixels(index, objects))
    return folder


def halve(path: Path) -> None:
    """Keep the first half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_rgb(path: Path) -> None:
    """An indexed image becomes one of colours."""
    Image.open(path).convert("RGB").save(path)


def become_16_bit(path: Path) -> None:
    Image.fromarray(np.array(Image.open(path)).astype(np.uint16)).save(path)


def read_pixels(path: Path) -> np.ndarray:
    """An image's stored values."""
    with Image.open(path) as image:
        return np.array(image)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the lock, by its relative path."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def timeless(folder: Path) -> dict[str, bytes]:
    """What an evaluation has written, but for the time and memory it took, by its relative path."""
    contents = {name: content for name, content in files(folder).items() if not name.endswith(".zip")}
    return {name: re.sub(rb'"(seconds\w*|peak_memory)": [\d.e-]+', b"", content) for name, content in contents.items()}


@cache
def _weights(seed: int) -> Mapping[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LIIR().eval()
    with torch.inference_mode():
        mean = model.encode(normalised_lab(frame_pixels(0))[None]).mean((0, 2, 3))
    state = model.state_dict()
    state["post_convolution.weight"] = state["post_convolution.weight"] * SHARPNESS
    state["post_convolution.bias"] = (state["post_convolution.bias"] - mean) * SHARPNESS
    return state


def weights(seed: int = 0) -> dict[str, Tensor]:
    """Random weights of the network, its pixel head sharpened so that it follows the squares tolerably.

    Callers share the tensors: replace them, do not write to them.
    """
    return dict(_weights(seed))


def write_checkpoint(path: Path, state: Mapping[str, Tensor] | None = None, **beside: object) -> Path:
    """A checkpoint with this state_dict, or random weights, and more `beside` it."""
    torch.save({"state_dict": weights() if state is None else state, **beside}, path)
    return path


def write_huge_header(path: Path, side: int) -> None:
    """Make a PNG claim to be this wide and high, with a valid checksum."""
    data = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
