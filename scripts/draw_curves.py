"""Draw how trainings went: the pixel loss of every run, and of its checkpoints on videos held out.

    python scripts/draw_curves.py results/plain results/full --output curves.png

A run is a --savepath of train.py. Its logged losses are averaged over --smooth lines; the figures of
scripts/measure_reconstruction.py are drawn too where they lie in RUN/held_out.json. A run that began with --pretrain
is drawn from the step at which that checkpoint was.
"""

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from utils.checkpoint import steps_taken
from utils.errors import UserError, run
from utils.log import FILE
from utils.options import ArgumentParser, at_least
from utils.savepath import RECORD, read_json

HELD_OUT = "held_out.json"


def main() -> None:
    """Read the command line and write the picture."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="savepaths of trainings")
    parser.add_argument("--smooth", type=at_least(1), default=10, help="lines of the log that a point is the mean of")
    parser.add_argument("--output", type=Path, default=Path("curves.png"), help="file for the picture")
    arguments = parser.parse_args()
    matplotlib.use("Agg")  # draws without a screen
    from matplotlib import pyplot

    figure, (training, held_out) = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    for folder in arguments.runs:
        steps, losses = read_losses(folder, arguments.smooth)
        before = steps_before(folder)
        (line,) = training.plot(before + steps, losses, label=folder.name)
        if (folder / HELD_OUT).exists():
            rows = read_json(folder / HELD_OUT)["checkpoints"]
            rows = sorted((before + row["steps"], row["loss"]) for row in rows)
            held_out.plot(*zip(*rows, strict=True), "o-", color=line.get_color(), label=folder.name)
    training.set(title="training videos", xlabel="steps", ylabel="pixel loss")
    held_out.set(title="videos held out", xlabel="steps")
    figure.legend(*training.get_legend_handles_labels(), loc="outside right upper")
    try:
        figure.savefig(arguments.output, dpi=100)
    except (OSError, ValueError) as error:
        raise UserError(f"--output {arguments.output}: cannot be written ({error}); name a .png") from error
    print(f"wrote {arguments.output}")


def steps_before(folder: Path) -> int:
    """Steps that led to the weights with which a run began, through all the runs whose folders are still there."""
    pretrained = read_json(folder / RECORD).get("pretrain") if (folder / RECORD).exists() else None
    if pretrained is None or not Path(pretrained).exists():
        return 0
    return steps_before(Path(pretrained).parent) + (steps_taken(Path(pretrained)) or 0)


def read_losses(folder: Path, smooth: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and running means of `smooth` logged pixel losses, of half of all at most.

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
    run(main)
