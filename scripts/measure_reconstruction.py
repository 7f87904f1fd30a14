"""Measure the pixel loss of checkpoints on held-out videos, to choose among them.

    python scripts/measure_reconstruction.py results/plain/checkpoint_epoch_*.pt --datapath VIDEOS --csvpath held.csv

Prints the pixel loss of training (docs/method.md §6) on fixed pairs of each video in the index, for both colour
channels, on whole frames of 256×256, with BatchNorm's running statistics.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from dataloaders.training_pairs import GAPS, Pair, Video, load_batches, read_index, require_folders
from functional.color import normalised_lab
from models.liir import LIIR, TRAINING_ONLY
from models.losses import COLOUR_CHANNELS, compute_losses, drop_channel
from training.files import steps_taken
from utils.checkpoint import load_weights, read_state_dict
from utils.device import select_device
from utils.errors import run_main
from utils.options import ArgumentParser, add_precision_options, at_least
from utils.savepath import write_json


def main() -> None:
    """Read the command line and print one line per checkpoint."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+", type=Path, help="checkpoints to measure")
    parser.add_argument("--datapath", type=Path, required=True, help="folder of frame folders")
    parser.add_argument("--csvpath", type=Path, required=True, help="index of the videos")
    parser.add_argument("--pairs", type=at_least(1), default=3, help="pairs per video and gap")
    parser.add_argument("--device", help="where to run; CUDA where there is one")
    parser.add_argument("--json", type=Path, help="also write the losses to this file")
    add_precision_options(parser)
    arguments = parser.parse_args()
    device = select_device(arguments.device, tf32=arguments.tf32)
    videos = read_index(arguments.csvpath)
    require_folders(videos, arguments.datapath)
    pairs = [pair for gap in GAPS for pair in spread_pairs(videos, arguments.datapath, gap, arguments.pairs)]
    rows = []
    for path in arguments.checkpoints:
        loss = measure(load_model(path, device), pairs, device, amp=arguments.amp)
        rows.append({"checkpoint": str(path), "steps": steps_taken(path), "loss": loss})
        tqdm.write(f"{path}  {loss:.5f}")
    if arguments.json:
        write_json(arguments.json, {"pairs": len(pairs), "checkpoints": rows})


def load_model(path: Path, device: torch.device) -> LIIR:
    """The network of a checkpoint in evaluation mode, without its training-only weights."""
    model = LIIR()
    load_weights(model, read_state_dict(path), path, unused=TRAINING_ONLY)
    return model.eval().to(device).to(memory_format=torch.channels_last)


def spread_pairs(videos: list[Video], root: Path, gap: int, count: int) -> list[Pair]:
    """Pairs of frames `gap` apart: up to `count` per video, evenly spaced."""
    pairs = []
    for row, video in enumerate(videos):
        frames = [root / video.name / f"{video.first + i:05d}.jpg" for i in range(video.count)]
        starts = range(0, len(frames) - gap, max(1, (len(frames) - gap) // count))[:count]
        pairs += [Pair(frames[start], frames[start + gap], row) for start in starts]
    return pairs


@torch.no_grad()
def measure(model: LIIR, pairs: list[Pair], device: torch.device, *, amp: bool) -> float:
    """The mean pixel loss over pairs and colour channels."""
    losses = []
    single = (range(i, i + 1) for i in range(len(pairs)))
    for reference, target, _ in tqdm(load_batches(pairs, single, normalised_lab, workers=1), total=len(pairs)):
        frames = reference.to(device), target.to(device)
        losses += [pair_loss(model, *frames, channel, amp=amp) for channel in COLOUR_CHANNELS]
    return float(torch.stack(losses).mean())


def pair_loss(model: LIIR, reference: Tensor, target: Tensor, channel: int, *, amp: bool) -> Tensor:
    """The pixel loss of one pair [1, 3, 256, 256] with one channel dropped."""
    with torch.autocast(reference.device.type, torch.bfloat16, enabled=amp):
        features = model(drop_channel(reference, channel), drop_channel(target, channel))
    features = type(features)(*(None if maps is None else maps.float() for maps in features))
    return compute_losses(features, reference[:, channel, None], target[:, channel, None], compact=False)["pixel"]


if __name__ == "__main__":
    run_main(main)
