"""Checkpoint files: read without running code in them, and loaded strictly into a network (docs/method.md §5)."""

import hashlib
import os
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from utils.errors import UserError, warn
from utils.savepath import replacing, writing

KINDS = (  # dtypes accepted in a checkpoint
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
WRAPPERS = ("module.", "model.", "_orig_mod.")  # put before names by DataParallel, Lightning, torch.compile
KEYS_SHOWN = 6  # at most, in an error message


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the weights in a checkpoint file, by name; UserError if it is not a checkpoint.

    The file is a dict with `state_dict`, or, with a warning, the weights alone or with the prefix of a wrapper. Only
    tensors and plain values are unpickled. Large files are memory-mapped, so that unused parts (a training queue) cost
    no memory.
    """
    return weights_in(path, read_content(path))


def load_weights(model: nn.Module, state: dict[str, Tensor], path: Path, *, unused: Iterable[str] = ()) -> None:
    """Copy weights into the model; UserError unless all names and shapes match and all values are finite.

    path: their file, for error messages; unused: prefixes of names to ignore.
    """
    unused = tuple(unused)
    state = {name: value for name, value in state.items() if not name.startswith(unused)}
    wanted = model.state_dict()
    unknown, missing = sorted(state.keys() - wanted.keys()), sorted(wanted.keys() - state.keys())
    if unknown or missing:
        parts = [f"{what} {_shown(names)}" for what, names in (("unknown", unknown), ("missing", missing)) if names]
        raise UserError(f"checkpoint {path}: is not LIIR's: {'; '.join(parts)}")
    misfits = [
        f"{name} {list(state[name].shape)} instead of {list(value.shape)}"
        for name, value in wanted.items()
        if state[name].shape != value.shape
    ]
    if misfits:
        raise UserError(f"checkpoint {path}: wrong shapes: {_shown(misfits)}")
    broken = [name for name, value in state.items() if not torch.isfinite(value.to(wanted[name].dtype)).all()]
    if broken:
        raise UserError(f"checkpoint {path}: not finite: {_shown(broken)}; its training diverged, use an earlier one")
    model.load_state_dict(state)


def save(path: Path, content: dict) -> None:
    """Write a checkpoint atomically: if writing fails, an existing file is kept."""
    with writing(path), replacing(path) as partial, partial.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # raised by PyTorch if the disk is full
            if isinstance(error.__context__, OSError):
                raise OSError(*error.__context__.args) from error
            raise
        file.flush()
        os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_content(path: Path) -> object:
    """Read a checkpoint file, unpickling only tensors and plain values; UserError if it cannot be read."""
    if not os.path.isfile(path):
        raise UserError(f"checkpoint {path}: no such file; scripts/download_checkpoints.py fetches the released ones")
    try:
        with warnings.catch_warnings(action="ignore"):  # about other formats, which are rejected anyway
            zipped = zipfile.is_zipfile(path)
            if zipped:
                _require_sound(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # many types, for damaged and malicious files
        raise UserError(f"checkpoint {path}: cannot be read as PyTorch weights ({_reason(error)})") from error


def _require_sound(path: Path) -> None:
    """Raise ValueError unless a zip file is undamaged and in the format that PyTorch writes.

    PyTorch does not verify checksums, so that a flipped bit would silently change a weight, and it reads
    compressed data as weights. Verifying 14 MB takes 0.04 s.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(part.compress_type for part in members) or sum(part.file_size for part in members) > path.stat().st_size:
            raise ValueError("its parts are compressed or overlap, unlike in files written by PyTorch")
        if damaged := archive.testzip():
            raise ValueError(f"its part {damaged} is damaged, the checksum is wrong; copy or download it again")


def weights_in(path: Path, content: object) -> dict[str, Tensor]:
    """Return the state_dict in a checkpoint's content; UserError if it is missing or not a dict of plain tensors."""
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"checkpoint {path}: must have a 'state_dict' of tensors; it contains {_kind(content)}")
    if invalid := [str(name) for name, value in state.items() if not _is_plain(value)]:
        raise UserError(f"checkpoint {path}: not plain tensors of real numbers: {_shown(invalid)}")
    if state is content:
        warn(f"checkpoint {path}: has no 'state_dict', is taken for the weights themselves")
    return _unwrapped(path, {str(name): value for name, value in state.items()})


def _unwrapped(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off the prefixes of `WRAPPERS` that all names have, with a warning."""
    prefix = ""
    while wrapper := next((part for part in WRAPPERS if all(name.startswith(prefix + part) for name in state)), ""):
        prefix += wrapper
    if prefix:
        warn(f"checkpoint {path}: all names begin with {prefix}, of a wrapper of the network; it is taken off")
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _is_plain(value: Tensor) -> bool:
    """Return whether a tensor is dense, on the CPU, of a common dtype, and has as much storage as its shape needs."""
    if value.dtype not in KINDS or value.layout != torch.strided or value.device.type != "cpu" or value.is_nested:
        return False
    return value.numel() * value.itemsize <= value.untyped_storage().nbytes()


def _reason(error: Exception) -> str:
    if "weights_only" in str(error):  # PyTorch's message advises to load the file anyway
        return "it contains objects other than tensors and plain values"
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _kind(content: object) -> str:
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    return f"the keys {_shown(sorted(map(str, content)))}" if content else "nothing"


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - KEYS_SHOWN} more" if len(names) > KEYS_SHOWN else ""
    return ", ".join(names[:KEYS_SHOWN]) + more
