"""Draw training curves: the pixel loss of each run, and of its checkpoints on held-out videos.

    python scripts/draw_curves.py results/plain results/full --output curves.png

A run is a --savepath of train.py. Its logged losses are smoothed by a running mean of --smooth lines; the output of
scripts/measure_reconstruction.py is drawn too if it is in RUN/held_out.json. A run that began with --pretrain is drawn
from the step of that checkpoint on.
"""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from training.files import steps_taken
from training.log import FILE
from utils.errors import UserError, run_main
from utils.options import ArgumentParser, at_least
from utils.savepath import RECORD, read_json

HELD_OUT = "held_out.json"


def main() -> None:
    """Read the command line and write the picture."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="--savepath of each training")
    parser.add_argument(
        "--smooth", type=at_least(1), default=10, help="length of the running mean, in lines of the log"
    )
    parser.add_argument("--output", type=Path, default=Path("curves.png"), help="picture to write")
    arguments = parser.parse_args()
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    training, held_out = figure.subplots(1, 2)
    for folder in arguments.runs:
        draw_run(folder, arguments.smooth, training, held_out)
    training.set(title="training videos", xlabel="steps", ylabel="pixel loss")
    held_out.set(title="videos held out", xlabel="steps")
    figure.legend(*training.get_legend_handles_labels(), loc="outside right upper")
    try:
        figure.savefig(arguments.output, dpi=100)
    except (OSError, ValueError) as error:
        raise UserError(f"--output {arguments.output}: cannot be written ({error}); name a .png") from error
    print(f"wrote {arguments.output}")


def draw_run(folder: Path, smooth: int, training: Axes, held_out: Axes) -> None:
    """The training curve of a run, and in the same colour its losses on held-out videos."""
    steps, losses = read_losses(folder, smooth)
    before = steps_before(folder)
    (line,) = training.plot(before + steps, losses, label=folder.name)
    if (folder / HELD_OUT).exists():
        rows = read_json(folder / HELD_OUT)["checkpoints"]
        points = sorted((before + row["steps"], row["loss"]) for row in rows)
        held_out.plot(*zip(*points, strict=True), "o-", color=line.get_color(), label=folder.name)


def steps_before(folder: Path) -> int:
    """Steps trained before a run, through the chain of runs it was pretrained by, as far as their folders exist."""
    pretrained = read_json(folder / RECORD).get("pretrain") if (folder / RECORD).exists() else None
    if pretrained is None or not Path(pretrained).exists():
        return 0
    return steps_before(Path(pretrained).parent) + (steps_taken(Path(pretrained)) or 0)


def read_losses(folder: Path, smooth: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the running mean of the logged pixel losses over `smooth` lines, at most half of the log.

    UserError if the folder holds no training.
    """
    try:
        rows = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / FILE}: cannot be read ({error}); name a --savepath of train.py") from error
    window = min(smooth, len(rows) // 2 + 1)
    steps, losses = (np.array([row[name] for row in rows]) for name in ("step", "pixel"))
    return steps[window - 1 :], np.convolve(losses, np.full(window, 1 / window), "valid") if rows else losses


if __name__ == "__main__":
    run_main(main)
