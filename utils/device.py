"""The device, its float32 precision and peak memory, and the versions of libraries."""

import importlib.metadata
import platform
import resource
import sys
from pathlib import Path

import torch

from utils.errors import UserError

LIBRARIES = ("torch", "numpy", "opencv-python-headless", "opencv-python", "pillow", "av", "spatial-correlation-sampler")


def select_device(name: str | None, *, tf32: bool = False, local_rank: int | None = None) -> torch.device:
    """Return the named device, by default CUDA if available and else the CPU; UserError if it cannot be used.

    tf32: enable TF32 on CUDA; PyTorch's default is TF32 in convolutions only.
    local_rank: number of this process among several on this machine, each of which has the GPU of its number.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "cuda" and local_rank is not None:
            device = _own_gpu(device, local_rank)
        torch.zeros(1, device=device).cpu()  # fails for `meta`, which has no values
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise UserError(f"--device {name}: cannot be used here ({str(error).splitlines()[0]}); use cpu") from error
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    return device


def _own_gpu(device: torch.device, local_rank: int) -> torch.device:
    if device != torch.device("cuda"):
        raise UserError(f"--device {device}: each process has a GPU of its own; pass cuda, or set CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if 0 < count <= local_rank:
        raise UserError(f"LOCAL_RANK {local_rank}: processes need a GPU each, there are {count}; start as many")
    return torch.device("cuda", local_rank)


def describe_device(device: torch.device) -> str:
    """Return the device's name, such as `cpu` or `cuda: NVIDIA H100`, without index, which does not affect results."""
    return f"cuda: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def versions() -> dict[str, str | None]:
    """Return the versions that results may depend on; None for libraries that are not installed."""
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
    """Return the peak memory so far, in bytes: allocated on a CUDA device, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")  # getrusage may return the parent process's peak
    lines = status.read_text(errors="replace").splitlines() if status.exists() else []
    if peaks := [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]:  # missing in some containers
        return peaks[0] * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
