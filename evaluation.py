"""What every evaluation starts with: a released configuration, loaded from its checkpoint."""

import importlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from functional.correlation import correlate
from models.inference import InferenceEncoder
from models.liir import LIIR, TRAINING_ONLY
from models.propagation import Propagator
from models.protocol import Propagation
from utils.checkpoint import load_weights, read_state_dict
from utils.errors import UserError, warn


def load_propagator(
    checkpoint: Path, device: torch.device, *, usemomen: bool, compact: bool, policy: int, backend: str, amp: bool
) -> Callable[[], Propagator]:
    """What starts the propagation of a sequence with a checkpoint, in one of the released configurations."""
    require_backend(backend, device)
    encode = load_encoder(checkpoint, device, usemomen=usemomen, amp=amp)
    propagation = Propagation.released(momentum=usemomen, compact=compact, policy=policy)
    return partial(Propagator, encode, propagation, backend=backend)


def require_backend(name: str, device: torch.device) -> None:
    """UserError unless a backend can be used here."""
    try:
        if name == "triton":
            importlib.import_module("triton")
        correlate(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), radius=0, backend=name)
    except ImportError as error:
        install = "pip install triton" if name == "triton" else "run scripts/install_sampler.sh"
        raise UserError(f"--backend {name}: {error}; {install} or use native") from error
    if name == "triton" and device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise UserError(f"--backend triton: needs a CUDA device, not {device.type}; use native")


def load_encoder(path: Path, device: torch.device, *, usemomen: bool, amp: bool = False) -> InferenceEncoder:
    """The encoder and pixel head in a checkpoint, made fast; amp: in bfloat16."""
    dtype = torch.bfloat16 if amp else torch.float32
    return InferenceEncoder(load_model(path, usemomen=usemomen)).to(device, dtype)


def load_model(path: Path, *, usemomen: bool) -> LIIR:
    """The network in a checkpoint, without what only training needs."""
    state = read_state_dict(path)
    momentum = any(name.startswith("conv_semantic_k.") for name in state)
    if usemomen and not momentum:
        warn(f"--usemomen, but {path} holds no key head (conv_semantic_k): it may not be an inter-video model")
    if momentum and not usemomen:
        warn(f"{path} holds a key head (conv_semantic_k): if it is an inter-video model, it wants --usemomen")
    model = LIIR()
    load_weights(model, state, path, unused=TRAINING_ONLY)
    return model.eval().requires_grad_(False)
