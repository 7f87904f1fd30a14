"""User-defined encoders, `--encoder module:function` (docs/own_features.md)."""

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise UserError(f"--encoder {name}: cannot be imported ({error}); pass module:function") from error
        encoder = function(device)
    return encoder, _sha256(module.__file__, encoder)


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
