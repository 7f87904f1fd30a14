"""Draw where one pixel of a frame looks in a near and in a far reference frame: untrained, trained, with the prior.

    python scripts/draw_affinity.py sample --pixel 216,60 --output docs/affinity.jpg

Each panel is the reference frame's part that the pixel's window covers, under the weights of a softmax over that window
alone; the far reference's window is centred by the long-range search (docs/method.md §3).
"""

import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from dataloaders.davis import load_sequences
from encoders import load_encoder
from functional.color import normalised_lab
from functional.compactness import PEAK_AT_TEST, two_gaussians
from functional.search import expected_offset, search_dilation
from functional.windows import displacements
from models.inference import InferenceEncoder
from models.liir import LIIR
from models.protocol import Propagation
from utils.errors import UserError, run
from utils.options import DEFAULT_CHECKPOINT, ArgumentParser

STRIDE, RADIUS = 4, Propagation().radius
SIZE = 2 * RADIUS + 1


class Place(NamedTuple):
    """A pixel."""

    x: int
    y: int


def place(text: str) -> Place:
    """The type of an option that takes a pixel, `x,y`."""
    try:
        return Place(*map(int, text.split(",")))
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"{text} is not x,y") from error


def main() -> None:
    """Read the command line and write the picture."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sequence", help="its name")
    parser.add_argument("--pixel", type=place, required=True, metavar="X,Y", help="of the target frame")
    parser.add_argument("--datapath", type=Path, default=Path("data/sample"), help="DAVIS folder")
    parser.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="the benchmark's year")
    parser.add_argument("--set", default="val", help="list that has the sequence")
    parser.add_argument("--target", type=int, default=-1, help="number of the target frame; -1 is the last")
    parser.add_argument("--resume", type=Path, default=DEFAULT_CHECKPOINT, help="checkpoint")
    parser.add_argument("--output", type=Path, default=Path("affinity.png"), help="file for the picture")
    arguments = parser.parse_args()
    (sequence,) = load_sequences(arguments.datapath, arguments.year, arguments.set, [arguments.sequence])
    frames, target = list(sequence.read_frames()), arguments.target
    target = target + len(frames) if target < 0 else target
    if not 1 <= target < len(frames):
        raise UserError(f"--target {arguments.target}: {sequence.name} has {len(frames)} frames; the first is none")
    height, width = frames[target].shape[:2]
    if not (0 <= arguments.pixel.x < width and 0 <= arguments.pixel.y < height):
        raise UserError(f"--pixel {arguments.pixel.x},{arguments.pixel.y}: not in a frame of {width}x{height}")
    torch.manual_seed(0)
    untrained = InferenceEncoder(LIIR().eval())
    trained = load_encoder(arguments.resume, torch.device("cpu"), usemomen=True)
    panels = {
        f"{what} reference, frame {number}": rows(frames, target, number, arguments.pixel, untrained, trained)
        for what, number in (("near", target - 1), ("far", 0))
    }
    draw(frames[target], arguments.pixel, panels, arguments.output)


class Window(NamedTuple):
    """A pixel's window in a reference frame."""

    weights: Tensor  # [P, P]
    left: float  # of the frame, in pixels
    top: float


Panels = tuple[np.ndarray, dict[str, Window]]  # a reference frame, and the windows to draw on it
Encode = Callable[[Tensor], Tensor]


def rows(
    frames: list[np.ndarray], target: int, reference: int, pixel: Place, untrained: Encode, trained: Encode
) -> Panels:
    """A reference frame, and the windows to draw on it."""
    ways = {"untrained": (untrained, False), "trained": (trained, False), "trained, prior": (trained, True)}
    pair, gap = (frames[target], frames[reference]), target - reference
    windows = {name: window(encode, pair, gap, pixel, prior=prior) for name, (encode, prior) in ways.items()}
    return frames[reference], windows


def window(encode: Encode, pair: tuple[np.ndarray, np.ndarray], gap: int, pixel: Place, *, prior: bool) -> Window:
    """The weights of a pixel of the first frame of a pair over its window in the second, `gap` frames older."""
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
    """Zeros right and below, to a multiple of the stride."""
    return F.pad(frame, (0, -frame.shape[2] % STRIDE, 0, -frame.shape[1] % STRIDE))


def draw(target: np.ndarray, pixel: Place, panels: dict[str, Panels], output: Path) -> None:
    """A row of panels for each reference frame, behind the target frame."""
    matplotlib.use("Agg")  # draws without a screen
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(panels), 4, figsize=(11, 5.2), width_ratios=(1.8, 1, 1, 1), layout="constrained")
    for row, (name, (reference, windows)) in zip(axes, panels.items(), strict=True):
        row[0].imshow(target[..., ::-1])
        row[0].plot(pixel.x, pixel.y, "c+", markersize=14, markeredgewidth=2)
        row[0].set_title(f"a pixel of the target; right: {name}", fontsize=9)
        for axis, (title, seen) in zip(row[1:], windows.items(), strict=True):
            right, bottom = seen.left + SIZE * STRIDE, seen.top + SIZE * STRIDE
            axis.imshow(reference[..., ::-1])
            shown = (seen.weights / seen.weights.max()).numpy()
            axis.imshow(shown, cmap="inferno", alpha=np.sqrt(shown), extent=(seen.left, right, bottom, seen.top))
            axis.set(xlim=(seen.left, right), ylim=(bottom, seen.top))
            axis.set_title(f"{title}: largest weight {seen.weights.max():.2g}", fontsize=9)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    try:
        figure.savefig(output, dpi=100)
    except (OSError, ValueError) as error:
        raise UserError(f"--output {output}: cannot be written ({error}); name a .png") from error
    print(f"wrote {output}")


if __name__ == "__main__":
    run(main)
