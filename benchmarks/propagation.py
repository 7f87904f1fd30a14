"""Time to propagate one frame, relative to the encoder: 480×854, five references.

"Plain encoder" is one pass of the network without optimisation: channels first, BatchNorm not folded.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import cv2
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from benchmarks.measure import Work, medians, parser, show, write
from dataloaders.davis import load_sequences
from evaluation.features import DEFAULT_CHECKPOINT, load_network
from functional.color import normalised_lab
from models import folded_encoder
from models.folded_encoder import FoldedEncoder
from models.propagation import Propagator, released_protocol
from scripts import make_sample
from utils.errors import run_main

HEIGHT, WIDTH = 480, 854
Encode = Callable[[Tensor], Tensor]
REFERENCES = {"near references": [0, 5, 9, 11, 13], "two searched": [0, 5, 35, 37, 39]}
MODELS = {
    "plain": released_protocol(momentum=False, compact=False),
    "compact": released_protocol(momentum=False, compact=True),
    "compact inter-video": released_protocol(momentum=True, compact=True),
}
PLAIN = "plain encoder"
MANY = 20  # objects


def main() -> None:
    """Measure and print the tables."""
    options = parser(__doc__)
    options.add_argument("--resume", type=Path, default=DEFAULT_CHECKPOINT, help="checkpoint")
    options.add_argument(
        "--datapath", type=Path, help="DAVIS folder: measure on a sequence of its 2016 val set instead"
    )
    options.add_argument("--sequence", default="dog", help="name of that sequence, of 480×854")
    arguments = options.parse_args()
    device = torch.device(arguments.device)
    if arguments.datapath is None:
        frames, masks = sample_clip()
    else:
        frames, masks = sequence_of(arguments.datapath, arguments.sequence)
    rows = medians(steps(arguments.resume, frames, masks, device), arguments.runs, device)
    show("One frame of 480×854", rows, "s", limit=PLAIN)
    write(arguments.json, {"seconds": rows}, device)


def sample_clip() -> tuple[list[Tensor], list[Tensor]]:
    """Frames [3, 480, 854] and masks [480, 854] of the sample clip, enlarged."""
    with tempfile.TemporaryDirectory() as folder:
        make_sample.write_sample(make_sample.load_all(), Path(folder))
        (sequence,) = load_sequences(Path(folder), 2017, "val")
        frames = [normalised_lab(cv2.resize(frame, (WIDTH, HEIGHT))) for frame in sequence.read_frames()]
        masks = [sequence.read_mask(index) for index in range(len(frames))]
    size = WIDTH, HEIGHT
    return frames, [torch.from_numpy(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)) for mask in masks]


def sequence_of(datapath: Path, name: str) -> tuple[list[Tensor], list[Tensor]]:
    """The same of a real sequence; of its masks only the first."""
    (sequence,) = load_sequences(datapath, 2016, "val", [name])
    return [normalised_lab(frame) for frame in sequence.read_frames()], [torch.from_numpy(sequence.first_mask())]


def steps(checkpoint: Path, frames: list[Tensor], masks: list[Tensor], device: torch.device) -> Work:
    """The plain encoder, the folded encoder, and one propagation step of each configuration."""
    model = load_network(checkpoint, usemomen=True).to(device)
    frames, encoder = [frame.to(device) for frame in frames], FoldedEncoder(model).to(device)
    padded = F.pad(frames[0], (0, -WIDTH % 4, 0, -HEIGHT % 4))[None]
    work: Work = {
        PLAIN: lambda: infer(model.encode, padded),
        "encoder": lambda: infer(encoder, padded),
        "encoder, without oneDNN's fused operators": lambda: infer(without_fused_operators(encoder), padded),
    }
    for references, indices in REFERENCES.items():
        for name, propagation in MODELS.items():
            step = next_step(Propagator(encoder, propagation), indices, frames, masks)
            work[f"step, {references}, {name}"] = step
    for name in ("plain", "compact"):
        step = next_step(Propagator(encoder, MODELS[name]), REFERENCES["near references"], frames, [many_objects()])
        work[f"step, near references, {name}, {MANY} objects"] = step
    return work


def without_fused_operators(encoder: FoldedEncoder) -> Encode:
    """The folded encoder by public operators only, which add shortcuts and apply ReLU in passes of their own."""

    def encode(frame: Tensor) -> Tensor:
        with patch.object(folded_encoder, "_fused_convolution", lambda _: None):
            return encoder(frame)

    return encode


def infer(encode: Encode, frame: Tensor) -> None:
    """One pass without gradients."""
    with torch.inference_mode():
        encode(frame)


def next_step(
    propagator: Propagator, indices: list[int], frames: list[Tensor], masks: list[Tensor]
) -> Callable[[], None]:
    """A call that takes the step after these frames; it resets the propagator, so that it can be repeated."""
    for index in indices:
        propagator.frame = index
        propagator.step(frames[index % len(frames)], masks[index % len(masks)])
    frame, memory, count = frames[(indices[-1] + 1) % len(frames)], dict(propagator.memory), propagator.frame

    def step() -> None:
        propagator.memory, propagator.frame = dict(memory), count
        propagator.step(frame)

    return step


def many_objects(height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """A mask [H, W] of 20 rectangles."""
    mask = torch.zeros(height, width, dtype=torch.int64)
    for number in range(MANY):
        row, column = divmod(number, 5)
        top, left = row * height // 4, column * width // 5
        mask[top : top + height // 6, left : left + width // 8] = number + 1
    return mask


if __name__ == "__main__":
    run_main(main)
