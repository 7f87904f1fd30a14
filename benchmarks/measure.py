"""What the benchmarks share: options, timing, a table and a JSON file."""

import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from utils.device import describe_device, peak_memory, versions
from utils.options import ArgumentParser

Work = dict[str, Callable[[], object]]


def parser(description: str | None) -> ArgumentParser:
    """The options of every benchmark."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each row")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to run")
    return parser


def medians(work: Work, runs: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each call; the calls alternate, so that a change of the machine's speed affects all."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(runs + 1):  # the first is warm-up
        for name, call in work.items():
            times[name].append(seconds(call, device))
    return {name: statistics.median(measured[1:]) for name, measured in times.items()}


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call takes, including its work on a GPU."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - started


def memory_of(function: Callable[..., object], *arguments: object) -> int:
    """Growth in bytes of the peak resident memory of a new process while it runs a module-level function."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_grown, (function, arguments))


def _grown(function: Callable[..., object], arguments: tuple) -> int:
    start = peak_memory(torch.device("cpu"))
    function(*arguments)
    return peak_memory(torch.device("cpu")) - start


def show(title: str, rows: dict[str, float], unit: str, limit: str) -> None:
    """Print a table of figures, each also as a multiple of the row `limit`."""
    print(f"\n{title}")
    for name, value in rows.items():
        print(f"  {name:<58} {value:10.4g} {unit}  {value / rows[limit]:7.2f} x")


def write(path: Path | None, results: dict, device: torch.device) -> None:
    """Print the machine; write it and the results as JSON."""
    machine = {
        "device": describe_device(device),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        **versions(),
    }
    print(f"\n{machine['processor']}, {machine['threads']} threads, {machine['device']}, PyTorch {torch.__version__}")
    if path:
        path.write_text(json.dumps({"machine": machine, **results}, indent=1) + "\n")


def processor() -> str:
    """The processor's name."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
