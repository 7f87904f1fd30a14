"""What a script runs on: its device, with float32 arithmetic that means float32, and the versions of its libraries."""

import platform
import resource
import sys

import cv2
import numpy as np
import torch

from utils.errors import UserError


def select_device(name: str | None) -> torch.device:
    """The named device, or CUDA where there is one and else the CPU; UserError if it cannot be used."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # `meta` can be had, but holds no values
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise UserError(f"--device {name}: cannot be used here ({str(error).splitlines()[0]}); use cpu") from error
    torch.backends.cudnn.allow_tf32 = False  # rounds to 10 bits of mantissa, and is PyTorch's default
    return device


def versions() -> dict[str, str]:
    """What numbers may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "processor": platform.processor() or platform.machine(),
    }


def peak_memory() -> dict[str, int]:
    """The most memory this process has held so far, in bytes: resident, and allocated on CUDA."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_initialized():
        peak["cuda"] = torch.cuda.max_memory_allocated()
    return peak
