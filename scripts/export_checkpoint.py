"""Export the weights of a checkpoint alone, in half precision.

    python scripts/export_checkpoint.py results/stage2/checkpoint_epoch_5.pt checkpoints/mine.pt

Prints the SHA-256 of the file written.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from utils.checkpoint import read_state_dict, save, sha256
from utils.errors import UserError, run_main
from utils.options import ArgumentParser

QUEUE = "colorizer."  # prefix of the queue of negatives in checkpoints of the reference implementation


def main() -> None:
    """Read the command line and write the file."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint to export")
    parser.add_argument("output", type=Path, help="checkpoint to write")
    arguments = parser.parse_args()
    state = {name: value for name, value in read_state_dict(arguments.checkpoint).items() if not name.startswith(QUEUE)}
    halves = {name: value.half() if value.is_floating_point() else value.clone() for name, value in state.items()}
    lost = [name for name, value in halves.items() if not torch.isfinite(value).all()]
    if lost:
        raise UserError(f"checkpoint {arguments.checkpoint}: not finite in half precision: {', '.join(lost)}")
    save(arguments.output, {"state_dict": halves})
    sys.stdout.write(f"{sha256(arguments.output)}  {arguments.output}\n")


if __name__ == "__main__":
    run_main(main)
