"""What a GPU would be asked to do, counted without one: kernel launches, waits of the host, and memory.

One step of propagation at 480×854 with five references, and one training step of one pair. The operations of the
optimiser are those of its plain loop, which on CUDA are fused.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from benchmarks.measure import parser, write
from benchmarks.propagation import MODELS, REFERENCES, next_step, sample_clip
from benchmarks.stand_in import DEVICE, StandIn
from evaluation.features import DEFAULT_CHECKPOINT, load_network
from models.folded_encoder import FoldedEncoder
from models.propagation import Propagator
from training.step import Recipe, Training
from utils.distributed import World
from utils.errors import run_main

PAIRS, FACTOR = 1, 1  # of a training step, and the queue's capacity in batches
RECIPES = {
    "stage 1": Recipe(semantic=True, compact=True, bsize=PAIRS),
    "stage 2": Recipe(usemomen=True, compact=True, bsize=PAIRS, factor=FACTOR),
}


def main() -> None:
    """Count and print one table."""
    options = parser(__doc__)
    options.add_argument("--resume", type=Path, default=DEFAULT_CHECKPOINT, help="checkpoint")
    arguments = options.parse_args()
    counts = propagation(arguments.resume, *sample_clip()) | training()
    print(f"{'':<46} launches  waits  peak GB")
    for name, device in counts.items():
        print(f"  {name:<44} {device.launches.total():8}  {device.waits.total():5}  {device.peak / 1e9:7.2f}")
    rows = {
        name: {"launches": d.launches.total(), "waits": d.waits.total(), "peak": d.peak} for name, d in counts.items()
    }
    write(arguments.json, {"counts": rows}, torch.device("cpu"))


def propagation(checkpoint: Path, frames: list[Tensor], masks: list[Tensor]) -> dict[str, StandIn]:
    """The counts of one step of each configuration, encoder included; frames [3, H, W], masks [H, W]."""
    counts = {}
    for references, indices in REFERENCES.items():
        for name, protocol in MODELS.items():
            with StandIn() as device:
                encoder = FoldedEncoder(load_network(checkpoint, usemomen=True)).to(DEVICE)
                at_device = ([image.to(DEVICE) for image in images] for images in (frames, masks))
                step = next_step(Propagator(encoder, protocol), indices, *at_device)
                step()  # the first time, constants are computed and copied to the device
                device.reset()
                step()
            counts[f"step, {references}, {name}"] = device
    return counts


def training() -> dict[str, StandIn]:
    """The counts of one training step of both stages."""
    counts = {}
    for name, recipe in RECIPES.items():
        with StandIn() as device:
            state = Training(recipe, World(0, 1, DEVICE))
            for step in range(FACTOR + 2):  # by then, negatives are used, and the optimiser has its state
                reference, target = (torch.rand(PAIRS, 3, 256, 256).to(DEVICE) for _ in range(2))
                videos = torch.arange(PAIRS * step, PAIRS * (step + 1)).to(DEVICE)
                device.reset()
                state.step(reference, target, videos, videos)
        counts[f"training step, {name}"] = device
    return counts


if __name__ == "__main__":
    run_main(main)
