"""What the benchmarks share: calls that take turns, one table, one JSON file."""

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


def parser(description: str) -> ArgumentParser:
    """A benchmark's options."""
    parser = ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each row")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to run")
    return parser


def medians(work: Work, runs: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each call; they take turns, so that a machine that slows down slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(runs + 1):  # the first warms up
        for name, call in work.items():
            times[name].append(seconds(call, device))
    return {name: statistics.median(measured[1:]) for name, measured in times.items()}


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """How long a call takes, its work on a GPU included."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - started


def memory_of(function: Callable[..., object], *arguments: object) -> int:
    """Bytes by which the peak resident memory of a process of its own grows while it runs a function of a module."""
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
    """Write the results, and where they were measured, as JSON."""
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
