"""What a script runs on: its device, with float32 arithmetic that means float32, and the versions of its libraries."""

import importlib.metadata
import platform
import resource
import sys
from pathlib import Path

import torch

from utils.errors import UserError

LIBRARIES = ("torch", "numpy", "opencv-python-headless", "opencv-python", "pillow", "av", "spatial-correlation-sampler")


def select_device(name: str | None, *, tf32: bool = False) -> torch.device:
    """The named device, or CUDA where there is one and else the CPU; UserError if it cannot be used.

    tf32: let CUDA round what it multiplies to 10 bits of mantissa, which PyTorch does by default in convolutions.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # `meta` can be had, but holds no values
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise UserError(f"--device {name}: cannot be used here ({str(error).splitlines()[0]}); use cpu") from error
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    return device


def describe_device(device: torch.device) -> str:
    """The device's name, such as `cpu` or `cuda: NVIDIA H100`; an index does not change results."""
    return f"cuda: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def versions() -> dict[str, str | None]:
    """What numbers may depend on; None where it is not installed."""
    return {
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "cuda": torch.version.cuda,
        **{name: _version(name) for name in LIBRARIES},
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def peak_memory(device: torch.device) -> int:
    """The most memory held so far, in bytes: allocated on a CUDA device, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")  # getrusage's peak may be that of the process which started this one
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
