"""User-defined encoders, `--encoder module:function` (docs/own_features.md)."""

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("dataloaders", "evaluation", "functional", "models", "training", "utils")  # of this repository


def load_user_encoder(name: str, device: torch.device) -> tuple[Any, str]:
    """Import `module:function` and call it with the device; return its encoder and a hash of source and weights.

    The module is in the current folder or an installed package; UserError if it cannot be imported.
    """
    module_name, _, function_name = name.partition(":")
    folder = _folder_of(module_name)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # permanently, since the encoder may import more later
    with isolated_imports(folder):
        try:
            module = importlib.import_module(module_name)
            function: Callable[[torch.device], Any] = getattr(module, function_name)
        except Exception as error:  # of the module's own code, too
            raise UserError(f"--encoder {name}: cannot be imported ({error}); pass module:function") from error
        with _explained(name, "when called with the device", "correct it"):
            encoder = function(device)
    return encoder, _sha256(module.__file__, encoder)


class CheckedEncoder:
    """A user's encoder whose exceptions and unsuitable outputs become a UserError."""

    def __init__(self, name: str, encoder: Any, stride: int, prepare: Callable[[np.ndarray], Tensor]) -> None:
        self.name = name
        self.stride = stride
        self._encoder = encoder
        self._prepare = prepare

    def __call__(self, frames: Tensor) -> Tensor:
        """Encode frames [1, C, H, W]; the grid of features must be H/stride × W/stride, rounded up or down."""
        way_out = "it must encode frames of any size (docs/own_features.md)"
        with _explained(self.name, f"on frames {tuple(frames.shape)}", way_out):
            features = self._encoder(frames)
        sides = frames.shape[-2:]
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        if not (isinstance(features, Tensor) and features.ndim == 4 and len(features) == 1) or not all(
            side // self.stride <= cells <= -(-side // self.stride)
            for side, cells in zip(sides, features.shape[-2:], strict=True)
        ):
            cells = ", ".join(str(side // self.stride) for side in sides)
            raise UserError(
                f"--encoder {self.name}: maps frames {tuple(frames.shape)} to {shape}; at stride {self.stride} (its "
                f"attribute `stride`, or that of --protocol) it must be [1, C, {cells}]"
            )
        return features

    def prepare(self, frame: np.ndarray) -> Tensor:
        """Convert a frame, BGR uint8 [H, W, 3], to the encoder's input [C, H, W]."""
        size = frame.shape[:2]
        with _explained(self.name, f"in `prepare`, on a frame {frame.shape}", "correct it"):
            prepared = self._prepare(frame)
        shape = tuple(prepared.shape) if isinstance(prepared, Tensor) else type(prepared).__name__
        if not isinstance(prepared, Tensor) or prepared.ndim != 3 or prepared.shape[1:] != size:
            way_out = "to resize, do it in the encoder, or pass --max_side or --protocol dino"
            raise UserError(
                f"--encoder {self.name}: `prepare` maps a frame {frame.shape} to {shape}; it must be "
                f"[C, {size[0]}, {size[1]}]; {way_out}"
            )
        return prepared


@contextmanager
def _explained(name: str, where: str, way_out: str) -> Iterator[None]:
    """Turn an exception of the user's code into a UserError that names its place."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in PACKAGES:
            way_out = f"import {error.name} at the top of its module: later, that name is a package of this repository"
        reason = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}, {error}"
        raise UserError(f"--encoder {name}: failed {where} ({reason}); {way_out}") from error


@contextmanager
def isolated_imports(folder: Path) -> Iterator[None]:
    """Let imports in this context find the modules of a folder, even if named like a package of this repository.

    For example, `from utils import …` in an encoder's module imports the `utils.py` in its folder.
    """
    entries = {entry.name for entry in folder.iterdir()} if folder.is_dir() and folder != ROOT else set()
    shadowed = {name for name in PACKAGES if name in entries or f"{name}.py" in entries}
    saved = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in shadowed}
    path = sys.path.copy()
    for name in saved:
        del sys.modules[name]
    if shadowed:
        sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in shadowed]:
            del sys.modules[name]
        sys.modules.update(saved)
        if shadowed:
            sys.path[:] = path


def _folder_of(module_name: str) -> Path:
    """Return the folder that contains a module's top-level package; the current folder if Python cannot find it."""
    spec = PathFinder.find_spec(module_name.partition(".")[0] or ".", [str(Path.cwd()), *sys.path])
    if spec is None or spec.origin is None:
        return Path.cwd()
    origin = Path(spec.origin).resolve()
    return origin.parents[1] if origin.name == "__init__.py" else origin.parent


def _sha256(source: str | None, encoder: object) -> str:
    """Hash the source file of an encoder and, if it is a `nn.Module`, its weights."""
    digest = hashlib.sha256(Path(source).read_bytes() if source else b"")
    if isinstance(encoder, nn.Module):
        for key, weights in encoder.state_dict().items():
            digest.update(key.encode())
            digest.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
