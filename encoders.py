"""What is propagated with: an encoder, LIIR's or another, and a protocol, as the command line asks for them."""

import hashlib
import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from functional.color import normalised_lab
from functional.correlation import BACKENDS, correlate
from models.inference import InferenceEncoder
from models.liir import LIIR, TRAINING_ONLY
from models.objects import ObjectPropagator
from models.propagation import Propagator
from models.protocol import PROTOCOLS, REFERENCE_POLICIES, Propagation
from utils.checkpoint import load_weights, read_state_dict
from utils.errors import UserError, warn
from utils.options import ArgumentParser, add_model_options


class Features(NamedTuple):
    """An encoder and the protocol it is propagated by."""

    encode: Callable[[Tensor], Tensor]
    propagation: Propagation
    stride: int
    prepare: Callable[[np.ndarray], Tensor]
    backend: str
    device: torch.device

    def propagator(self) -> Propagator:
        """For one video."""
        return Propagator(self.encode, self.propagation, stride=self.stride, backend=self.backend)

    def objects(self, max_side: int | None = None) -> ObjectPropagator:
        """For the masks of one video."""
        return ObjectPropagator(self.propagator(), self.prepare, max_side=max_side, device=self.device)


def add_features_options(parser: ArgumentParser) -> None:
    """What is propagated with, and on what; the reference implementation's options keep their names and defaults."""
    add_model_options(parser, backends=BACKENDS, policies=REFERENCE_POLICIES, protocols=PROTOCOLS)


def load_features(arguments: Namespace, device: torch.device, *, soft: bool = False) -> Features:
    """What the options of `add_model_options` ask for; soft: remember soft labels, whatever the protocol says."""
    require_backend(arguments.backend, device)
    protocol = arguments.protocol or ("liir" if arguments.encoder is None else "crw")
    stride, propagation = PROTOCOLS[protocol]
    if propagation == Propagation():
        propagation = Propagation.released(momentum=arguments.usemomen, compact=arguments.compact, policy=arguments.ref)
    elif arguments.compact or arguments.ref or (arguments.usemomen and arguments.encoder is not None):
        raise UserError(f"--protocol {protocol}: has no --usemomen, --compact and --ref; they are liir's")
    if soft:
        propagation = replace(propagation, soft=True, foreground_gain=1.0)
    if arguments.encoder is None:
        encode = load_encoder(arguments.resume, device, usemomen=arguments.usemomen, amp=arguments.amp)
        return Features(encode, propagation, PROTOCOLS["liir"][0], normalised_lab, arguments.backend, device)
    if arguments.amp:
        raise UserError("--amp: is for LIIR's own encoder; let that of --encoder choose its precision")
    encode = import_encoder(arguments.encoder)(device)
    stride, prepare = getattr(encode, "stride", stride), getattr(encode, "prepare", normalised_lab)
    features = Features(encode, propagation, stride, prepare, arguments.backend, device)
    require_fitting(arguments.encoder, features)
    return features


def require_fitting(name: str, features: Features) -> None:
    """UserError unless an encoder turns a frame into the grid of features that its stride says."""
    if not callable(features.encode):
        raise UserError(f"--encoder {name}: returned {features.encode!r}; it must return what encodes frames")
    if not isinstance(features.stride, int) or features.stride < 1:
        raise UserError(f"--encoder {name}: its attribute `stride` is {features.stride!r}; it must be pixels in a cell")
    cells = 8, 9
    side = [number * features.stride for number in cells]
    with torch.inference_mode():
        frame = features.prepare(np.zeros((*side, 3), np.uint8)).to(features.device)
        found = features.encode(frame[None])
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if not (isinstance(found, Tensor) and found.ndim == 4 and (shape[0], *shape[2:]) == (1, *cells)):
        raise UserError(
            f"--encoder {name}: makes {shape} of a frame {tuple(frame.shape)}; at stride {features.stride} (its "
            f"attribute `stride`, or that of --protocol) it must be [1, C, {cells[0]}, {cells[1]}]"
        )


def import_encoder(name: str) -> Callable[[torch.device], Callable[[Tensor], Tensor]]:
    """The function that `--encoder module:function` names, from the current folder or an installed package."""
    module, _, function = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))  # and stays there, for what the function imports itself
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"--encoder {name}: cannot be imported ({error}); name it module:function") from error


def encoder_sha256(name: str, encode: Callable[[Tensor], Tensor]) -> str:
    """A hash of the file that defines an encoder, and of its weights where it is a module."""
    source = importlib.import_module(name.partition(":")[0]).__file__
    parts = hashlib.sha256(Path(source).read_bytes() if source else b"")
    if isinstance(encode, torch.nn.Module):
        for key, weights in encode.state_dict().items():
            parts.update(key.encode())
            parts.update(weights.detach().cpu().flatten().view(torch.uint8).numpy())
    return parts.hexdigest()


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
