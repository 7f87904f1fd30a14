"""Time and memory of `evaluate_davis.py` relative to propagation alone, and how both grow with the frame size.

The sample clip at 480×854, 24 frames with two objects; then noise at 1080×1920 and at 480×854.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a file, from anywhere

from benchmarks.measure import Work, medians, memory_of, parser, show, write
from benchmarks.propagation import HEIGHT, MODELS, REFERENCES, WIDTH, next_step, sample_clip
from evaluation.features import DEFAULT_CHECKPOINT, load_encoder
from functional.color import to_rgb
from models.folded_encoder import FoldedEncoder
from models.propagation import Propagator
from utils.errors import run_main
from utils.savepath import read_json
from utils.visualize import write_mask, write_picture

LARGE = 1080, 1920
CONFIGURATIONS = {"plain": [], "compact": ["--compact"], "compact inter-video": ["--usemomen", "--compact"]}


def main() -> None:
    """Measure and print the tables."""
    options = parser(__doc__)
    options.add_argument("--resume", type=Path, default=DEFAULT_CHECKPOINT, help="checkpoint")
    arguments = options.parse_args()
    device = torch.device(arguments.device)
    results: dict[str, dict] = {"evaluation": evaluate(arguments.resume, device)}
    if device.type == "cpu":
        results["large"] = grow(arguments.resume, arguments.runs)
    write(arguments.json, results, device)


def evaluate(checkpoint: Path, device: torch.device) -> dict[str, dict[str, float]]:
    """Seconds of the whole and of propagation alone, and peak memory in bytes beyond importing torch."""
    torch_alone = memory_of_torch() if device.type == "cpu" else 0
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_davis(data)
        for name, flags in CONFIGURATIONS.items():
            record = evaluate_davis(data, Path(folder) / name, [*flags, "--resume", checkpoint], device)
            results[name] = {
                "propagation": record["seconds"],
                "whole": record["seconds_in_all"],
                "frames": record["frames"],
                "memory": record["peak_memory"] - torch_alone,
            }
    print(f"\nevaluate_davis.py, {record['frames']} frames of 480×854")
    for name, row in results.items():
        ratio, memory = row["whole"] / row["propagation"], row["memory"] / 2**20
        print(f"  {name:<22} {row['whole']:.1f} s, {ratio:.3f} of propagation alone; {memory:.0f} MiB above torch")
    return results


def evaluate_davis(data: Path, savepath: Path, options: list, device: torch.device) -> dict:
    """Run evaluate_davis.py on a folder with one sequence; the record of that sequence."""
    options = [*options, "--datapath", data, "--savepath", savepath, "--device", device.type]
    command = [sys.executable, "evaluate_davis.py", *map(str, options)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (record,) = read_json(savepath / "results.json")["sequences"].values()
    return record


def memory_of_torch() -> int:
    """Peak memory in bytes of a process that only imports torch."""
    program = "import torch; from utils.device import peak_memory; print(peak_memory(torch.device('cpu')))"
    return int(subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True).stdout)


def write_davis(root: Path) -> None:
    """Write the sample clip at 480×854 in the layout of DAVIS."""
    for index, (frame, mask) in enumerate(zip(*sample_clip(), strict=True)):
        write_picture(root / f"JPEGImages/480p/sample/{index:05d}.jpg", to_rgb(frame))
        folder = root / "Annotations/480p/sample"
        folder.mkdir(parents=True, exist_ok=True)
        write_mask(folder / f"{index:05d}.png", mask.numpy())
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("sample\n")


def grow(checkpoint: Path, runs: int) -> dict[str, float]:
    """Time and memory of a step at 1080×1920, divided by those at 480×854."""
    large, small = LARGE, (HEIGHT, WIDTH)
    work: Work = {str(size): clip_step(checkpoint, *size) for size in (large, small)}
    seconds = medians(work, min(runs, 3), torch.device("cpu"))
    memory = {size: memory_of(take_step, checkpoint, *size) - memory_of(load, checkpoint) for size in (large, small)}
    rows = {
        "pixels": large[0] * large[1] / (small[0] * small[1]),
        "time": seconds[str(large)] / seconds[str(small)],
        "memory": memory[large] / memory[small],
    }
    show("A step at 1080×1920 as a multiple of one at 480×854", rows, "", limit="pixels")
    return rows


def clip_step(checkpoint: Path, height: int, width: int) -> Callable[[], None]:
    """A call that takes a step with five near references and one object, on frames of noise."""
    propagator = Propagator(load(checkpoint), MODELS["plain"])
    mask = torch.zeros(height, width, dtype=torch.int64)
    mask[: height // 2] = 1
    return next_step(propagator, REFERENCES["near references"], list(torch.randn(6, 3, height, width)), [mask])


def take_step(checkpoint: Path, height: int, width: int) -> None:
    """Propagate through six frames and take the next step."""
    clip_step(checkpoint, height, width)()


def load(checkpoint: Path) -> FoldedEncoder:
    """The folded encoder of a checkpoint, on the CPU."""
    return load_encoder(checkpoint, torch.device("cpu"), usemomen=True)


if __name__ == "__main__":
    run_main(main)
