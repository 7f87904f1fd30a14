"""Draw the affinity of one pixel to a near and a far reference frame: untrained, trained, with the compactness prior.

    python scripts/draw_affinity.py sample --pixel 216,60 --output docs/affinity.jpg

Each panel shows the part of the reference frame that the pixel's window covers, overlaid with the softmax over that
window alone; the far reference's window is centred by the long-range search (docs/method.md §3).
"""

import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from dataloaders.davis import load_sequences
from evaluation.features import DEFAULT_CHECKPOINT, load_encoder
from functional.color import normalised_lab
from functional.compactness import PEAK_AT_TEST, two_gaussians
from functional.long_range_search import expected_offset, search_dilation
from functional.tiles import displacements
from models.folded_encoder import FoldedEncoder
from models.liir import LIIR
from models.propagation import LocalProtocol
from utils.errors import UserError, run_main
from utils.options import ArgumentParser

STRIDE, RADIUS = 4, LocalProtocol().radius
SIZE = 2 * RADIUS + 1


class Pixel(NamedTuple):
    """A pixel's position."""

    x: int
    y: int


def pixel(text: str) -> Pixel:
    """argparse type of a pixel, `x,y`."""
    try:
        return Pixel(*map(int, text.split(",")))
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"{text} is not x,y") from error


def main() -> None:
    """Read the command line, compute the affinities, write the picture."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("sequence", help="name of the sequence")
    parser.add_argument("--pixel", type=pixel, required=True, metavar="X,Y", help="pixel of the target frame")
    parser.add_argument("--datapath", type=Path, default=Path("data/sample"), help="DAVIS folder")
    parser.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="the benchmark's year")
    parser.add_argument("--set", default="val", help="list of sequences in ImageSets")
    parser.add_argument("--target", type=int, default=-1, help="index of the target frame; -1 is the last")
    parser.add_argument("--resume", type=Path, default=DEFAULT_CHECKPOINT, help="checkpoint of the trained features")
    parser.add_argument("--output", type=Path, default=Path("affinity.png"), help="picture to write")
    arguments = parser.parse_args()
    (sequence,) = load_sequences(arguments.datapath, arguments.year, arguments.set, [arguments.sequence])
    frames = list(sequence.read_frames())
    target = require_target(arguments.target, frames, arguments.pixel)
    torch.manual_seed(0)
    untrained = FoldedEncoder(LIIR().eval())
    trained = load_encoder(arguments.resume, torch.device("cpu"), usemomen=True)
    panels = {
        f"{what} reference, frame {number}": rows(frames, target, number, arguments.pixel, untrained, trained)
        for what, number in (("near", target - 1), ("far", 0))
    }
    figure = draw(frames[target], arguments.pixel, panels)
    try:
        figure.savefig(arguments.output, dpi=100)
    except (OSError, ValueError) as error:
        raise UserError(f"--output {arguments.output}: cannot be written ({error}); name a .png") from error
    print(f"wrote {arguments.output}")


def require_target(index: int, frames: list[np.ndarray], pixel: Pixel) -> int:
    """The index of the target frame, negative ones counted from the end; UserError unless it has the pixel."""
    target = index + len(frames) if index < 0 else index
    if not 1 <= target < len(frames):
        raise UserError(f"--target {index}: there are {len(frames)} frames; choose one after the first")
    height, width = frames[target].shape[:2]
    if not (0 <= pixel.x < width and 0 <= pixel.y < height):
        raise UserError(f"--pixel {pixel.x},{pixel.y}: outside the frame of {width}x{height}")
    return target


class Window(NamedTuple):
    """A pixel's window in a reference frame."""

    weights: Tensor  # [P, P]
    left: float  # of the frame, in pixels
    top: float


Panels = tuple[np.ndarray, dict[str, Window]]  # a reference frame, and the windows to draw on it by their titles
Encode = Callable[[Tensor], Tensor]


def rows(
    frames: list[np.ndarray], target: int, reference: int, pixel: Pixel, untrained: Encode, trained: Encode
) -> Panels:
    """The panels of one reference frame."""
    ways = {"untrained": (untrained, False), "trained": (trained, False), "trained, prior": (trained, True)}
    pair, gap = (frames[target], frames[reference]), target - reference
    windows = {name: window(encode, pair, gap, pixel, prior=prior) for name, (encode, prior) in ways.items()}
    return frames[reference], windows


def window(encode: Encode, pair: tuple[np.ndarray, np.ndarray], gap: int, pixel: Pixel, *, prior: bool) -> Window:
    """The affinity of a pixel of the pair's first frame to its window in the second, which is `gap` frames older."""
    query, key = (encode(pad(normalised_lab(frame))[None]) for frame in pair)
    row, column = pixel.y // STRIDE, pixel.x // STRIDE
    centre = torch.tensor([column, row], dtype=torch.float32)
    if dilation := search_dilation(gap):
        centre += expected_offset(query, key, RADIUS, dilation)[0, :, row, column]
    every = torch.einsum("c,chw->hw", query[0, :, row, column], key[0])  # a logit is linear in its key
    places = centre + displacements(RADIUS, device=every.device, dtype=every.dtype)  # [P*P, 2]
    grid = (2 * places + 1) / torch.tensor([every.shape[1], every.shape[0]]) - 1
    logits = F.grid_sample(every[None, None], grid[None, None], align_corners=False).view(1, -1)
    weights = logits.softmax(1)
    if prior and weights.max() > PEAK_AT_TEST:
        weights = two_gaussians(weights)
    left, top = (STRIDE * (centre - RADIUS)).tolist()
    return Window(weights.view(SIZE, SIZE), left, top)


def pad(frame: Tensor) -> Tensor:
    """Zero-pad a frame [3, H, W] on the right and below to a multiple of the stride."""
    return F.pad(frame, (0, -frame.shape[2] % STRIDE, 0, -frame.shape[1] % STRIDE))


def draw(target: np.ndarray, pixel: Pixel, panels: dict[str, Panels]) -> Figure:
    """One row per reference frame: the target frame, then the reference's panels."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    axes = figure.subplots(len(panels), 4, width_ratios=(1.8, 1, 1, 1))
    for row, (name, (reference, windows)) in zip(axes, panels.items(), strict=True):
        row[0].imshow(target[..., ::-1])
        row[0].plot(pixel.x, pixel.y, "c+", markersize=14, markeredgewidth=2)
        row[0].set_title(f"a pixel of the target; right: {name}", fontsize=9)
        for axis, (title, window) in zip(row[1:], windows.items(), strict=True):
            draw_window(axis, reference, title, window)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


def draw_window(axis: Axes, reference: np.ndarray, title: str, window: Window) -> None:
    """The part of a reference frame that a window covers, overlaid with its weights."""
    right, bottom = window.left + SIZE * STRIDE, window.top + SIZE * STRIDE
    axis.imshow(reference[..., ::-1])
    shown = (window.weights / window.weights.max()).numpy()
    axis.imshow(shown, cmap="inferno", alpha=np.sqrt(shown), extent=(window.left, right, bottom, window.top))
    axis.set(xlim=(window.left, right), ylim=(bottom, window.top))
    axis.set_title(f"{title}: largest weight {window.weights.max():.2g}", fontsize=9)


if __name__ == "__main__":
    run_main(main)
