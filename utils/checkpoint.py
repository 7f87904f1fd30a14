"""Checkpoint files: read without running anything in them, and fitted to a network strictly (docs/method.md §5)."""

import hashlib
import os
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from utils.errors import UserError
from utils.savepath import replacing, writing

KINDS = (  # of numbers in a checkpoint
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
KEYS_SHOWN = 6  # of a list of keys, in an error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint file, by name; UserError if it is no checkpoint.

    The file is a dict with `state_dict`, and is never unpickled beyond tensors and plain values. Large files are
    mapped, so that what is not used (a training queue) costs no memory.
    """
    return _weights(path, _read(path))


def load_weights(model: nn.Module, state: dict[str, Tensor], path: Path, *, unused: Iterable[str] = ()) -> None:
    """Copy weights into the model: all names, all shapes, all finite; names that begin like one of `unused` are left.

    path: the file they came from, for the errors.
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
    """Write a checkpoint that is either whole or, if writing fails, the one that was there before."""
    with writing(path), replacing(path) as partial, partial.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # what PyTorch makes of a full disk
            if isinstance(error.__context__, OSError):
                raise OSError(*error.__context__.args) from error
            raise
        file.flush()
        os.fsync(file.fileno())


def read_training_state(path: Path) -> dict:
    """A training's whole state, as `save` wrote it; UserError if it is anything else."""
    content = _read(path)
    if (
        not isinstance(content, dict)
        or not {"state_dict", "optimizer", "queue", "position", "recipe"} <= content.keys()
    ):
        raise UserError(f"checkpoint {path}: cannot be resumed, it has no training state; only last.pt files have")
    return content | {"state_dict": _weights(path, content)}


def steps_taken(path: Path) -> int | None:
    """After how many steps of its training a checkpoint was saved; None if it does not say."""
    content = _read(path)
    if not isinstance(content, dict):
        return None
    position = content.get("position", {"steps": content.get("iter")})
    steps = position.get("steps") if isinstance(position, dict) else None
    return steps if isinstance(steps, int) else None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> object:
    if not os.path.isfile(path):
        raise UserError(f"checkpoint {path}: no such file; scripts/download_checkpoints.py fetches the released ones")
    try:
        with warnings.catch_warnings(action="ignore"):  # of foreign formats, which are refused anyway
            zipped = zipfile.is_zipfile(path)
            if zipped:
                _require_sound(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # whatever a damaged or hostile file makes the reader stumble over
        raise UserError(f"checkpoint {path}: cannot be read as PyTorch weights ({_reason(error)})") from error


def _require_sound(path: Path) -> None:
    """ValueError unless a zip is as PyTorch writes it.

    PyTorch does not compare checksums, so that a bit which flipped on a disk would be a wrong weight; and it takes what
    is compressed for weights. Reading 14 MB for it takes 0.04 s.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(one.compress_type for one in members) or sum(one.file_size for one in members) > path.stat().st_size:
            raise ValueError("its parts are compressed or overlap, which is not how PyTorch writes them")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} in it is damaged, its checksum is wrong; copy or download it again")


def _weights(path: Path, content: object) -> dict[str, Tensor]:
    """The state_dict in a checkpoint's content; UserError if there is none, or if it is not of plain tensors."""
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"checkpoint {path}: needs a 'state_dict' of tensors; it holds {_kind(content)}")
    if odd := [str(name) for name, value in state.items() if not _is_plain(value)]:
        raise UserError(f"checkpoint {path}: not plain tensors of real numbers: {_shown(odd)}")
    return {str(name): value for name, value in state.items()}


def _is_plain(value: Tensor) -> bool:
    """Whether a tensor is of a common kind of numbers, and holds as many as it claims."""
    if value.dtype not in KINDS or value.layout != torch.strided or value.device.type != "cpu" or value.is_nested:
        return False
    return value.numel() * value.itemsize <= value.untyped_storage().nbytes()


def _reason(error: Exception) -> str:
    if "weights_only" in str(error):  # PyTorch's text goes on to advise loading the file all the same
        return "it holds other things than tensors and plain values"
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _kind(content: object) -> str:
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    return f"the keys {_shown(sorted(map(str, content)))}" if content else "nothing"


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - KEYS_SHOWN} more" if len(names) > KEYS_SHOWN else ""
    return ", ".join(names[:KEYS_SHOWN]) + more
