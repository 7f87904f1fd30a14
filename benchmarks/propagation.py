"""What propagating one frame costs beside the encoder: 480×854, five references, this machine.

Prints medians over paired runs in one process, and their ratios to one pass of the plain encoder: the network
written simply, channels first, BatchNorm not folded.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from dataloaders.davis import load_sequences
from evaluation import load_model
from functional.color import normalised_lab
from models.inference import InferenceEncoder
from models.propagation import Propagation, Propagator
from scripts import make_sample
from utils.device import peak_memory
from utils.errors import run
from utils.options import DEFAULT_CHECKPOINT, ArgumentParser

HEIGHT, WIDTH = 480, 854
Encode = Callable[[Tensor], Tensor]
REFERENCES = {"near references": [0, 5, 9, 11, 13], "two searched": [0, 5, 35, 37, 39]}
MODELS = {
    "plain": Propagation.released(momentum=False, compact=False),
    "compact": Propagation.released(momentum=False, compact=True),
    "compact inter-video": Propagation.released(momentum=True, compact=True),
}


def main() -> None:
    """Measure and print one table; --json writes the same as JSON."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each row")
    parser.add_argument("--resume", type=Path, default=DEFAULT_CHECKPOINT, help="checkpoint")
    parser.add_argument("--datapath", type=Path, help="DAVIS folder, to measure on a sequence of its 2016 val set")
    parser.add_argument("--sequence", default="dog", help="which one, of 480×854")
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    start = peak_memory(torch.device("cpu"))
    frames, masks = sample_clip() if arguments.datapath is None else sequence_of(arguments.datapath, arguments.sequence)
    rows = measure(encoders(arguments.resume), frames, masks, arguments.runs)
    plain = rows["plain encoder"]
    for name, seconds in rows.items():
        print(f"{name:<45} {seconds:6.2f} s  {seconds / plain:5.2f} x")
    added = peak_memory(torch.device("cpu")) - start
    print(f"peak memory above the imports {added / 2**20:.0f} MiB; {torch.get_num_threads()} threads")
    if arguments.json:
        result = {"seconds": rows, "peak_memory_added": added, "threads": torch.get_num_threads()}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


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
    """The same of a real sequence, and its first mask alone."""
    (sequence,) = load_sequences(datapath, 2016, "val", [name])
    return [normalised_lab(frame) for frame in sequence.read_frames()], [torch.from_numpy(sequence.first_mask())]


def encoders(checkpoint: Path) -> dict[str, Encode]:
    """The network written plainly and as the project runs it."""
    model = load_model(checkpoint, usemomen=False)
    return {"plain encoder": model.encode, "encoder": InferenceEncoder(model)}


def measure(encoders: dict[str, Encode], frames: list[Tensor], masks: list[Tensor], runs: int) -> dict[str, float]:
    """Median seconds of each row; the rows take turns, so that a machine that slows down slows all of them."""
    padded = F.pad(frames[0], (0, -WIDTH % 4, 0, -HEIGHT % 4))[None]
    work = {name: lambda encode=encode: encode(padded) for name, encode in encoders.items()}
    for references, indices in REFERENCES.items():
        for name, propagation in MODELS.items():
            propagator = Propagator(encoders["encoder"], propagation)
            for index in indices:
                propagator.frame = index
                propagator.step(frames[index % len(frames)], masks[index % len(masks)])
            work[f"step, {references}, {name}"] = step_again(propagator, frames[(indices[-1] + 1) % len(frames)])
    times = {name: [] for name in work}
    for _ in range(runs + 1):  # the first warms up
        for name, call in work.items():
            started = time.perf_counter()
            with torch.inference_mode():
                call()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


def step_again(propagator: Propagator, frame: Tensor) -> Callable[[], object]:
    """The propagator's next step, as often as called: it forgets it again."""
    memory, index = dict(propagator.memory), propagator.frame

    def step() -> None:
        propagator.memory, propagator.frame = dict(memory), index
        propagator.step(frame)

    return step


if __name__ == "__main__":
    run(main)
