"""The encoder (LIIR's or the user's own) and the propagation protocol that the command line selects."""

import copy
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from evaluation.user_encoder import CheckedEncoder, load_user_encoder
from functional.color import normalised_lab
from functional.correlation import BACKENDS, require_backend
from models.folded_encoder import FoldedEncoder
from models.liir import LIIR, TRAINING_ONLY
from models.propagation import (
    PROTOCOLS,
    LocalProtocol,
    ObjectPropagator,
    Propagator,
    ReferencePolicy,
    released_protocol,
)
from models.propagation.protocol import Protocol
from utils.bfloat16 import warn_if_slower
from utils.checkpoint import load_weights, read_state_dict, sha256
from utils.device import describe_device
from utils.errors import UserError, warn
from utils.options import ArgumentParser, add_local_rank_option, add_precision_options

DEFAULT_CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "liir.pt"
REFERENCE_HELP = "references: 0 first, sixth and recent frames (default); 1 first and recent ones; 2 previous one"


@dataclass(frozen=True)
class FeatureOptions:
    """The parsed options of `add_feature_options`."""

    resume: Path
    compact: bool
    usemomen: bool
    ref: int
    encoder: str | None
    protocol: str | None
    device: str | None
    backend: str
    amp: bool
    tf32: bool


def add_feature_options(parser: ArgumentParser) -> None:
    """Add the options for encoder, protocol and device; the reference implementation's keep names and defaults."""
    parser.add_argument("--resume", type=Path, default=DEFAULT_CHECKPOINT, help="checkpoint to evaluate")
    parser.add_argument("--compact", action="store_true", help="use the compactness prior")
    parser.add_argument("--usemomen", action="store_true", help="the checkpoint was trained with inter-video negatives")
    parser.add_argument("--ref", type=int, choices=[*map(int, ReferencePolicy)], default=0, help=REFERENCE_HELP)
    parser.add_argument("--encoder", metavar="MODULE:FUNCTION", help="your own encoder, returned by FUNCTION(device)")
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), help="default: liir, or crw with --encoder")
    parser.add_argument("--device", help="such as cpu or cuda:1; default: CUDA if available, else the CPU")
    parser.add_argument("--backend", choices=BACKENDS, default="native", help="implementation of local attention")
    add_precision_options(parser)
    add_local_rank_option(parser)


def feature_options(arguments: Namespace) -> FeatureOptions:
    """Return the options of `add_feature_options` from parsed arguments."""
    return FeatureOptions(**{field.name: getattr(arguments, field.name) for field in fields(FeatureOptions)})


class Features(NamedTuple):
    """An encoder and the protocol that propagates labels with its features."""

    encode: Callable[[Tensor], Tensor]
    protocol: Protocol
    stride: int
    prepare: Callable[[np.ndarray], Tensor]  # BGR uint8 [H, W, 3] -> input of `encode`, without the batch axis
    backend: str
    device: torch.device
    identity: dict[str, str]  # device and file hashes, which with the options identify a run

    def grid(self, side: int) -> tuple[int, int]:
        """Return the rows and columns of the feature grid of a frame of side × side pixels."""
        if self.protocol.padded:
            return -(-side // self.stride), -(-side // self.stride)
        with torch.inference_mode():
            frame = self.prepare(np.zeros((side, side, 3), np.uint8)).to(self.device)
            _, _, rows, columns = self.encode(frame[None]).shape
        return rows, columns

    def propagator(self) -> Propagator:
        """Create a label propagator for one video."""
        return Propagator(self.encode, self.protocol, stride=self.stride, backend=self.backend)

    def without_resizing(self) -> "Features":
        """Return the same with frames at the size they have, whatever the protocol says."""
        if isinstance(self.protocol, LocalProtocol):
            return self
        return self._replace(protocol=replace(self.protocol, short_side=None))

    def objects(self, max_side: int | None = None) -> ObjectPropagator:
        """Create a mask propagator for one video; max_side: longer side to which larger frames are downscaled."""
        return ObjectPropagator(self.propagator(), self.prepare, max_side=max_side, device=self.device)


def require_native_frames(options: FeatureOptions, max_side: int | None) -> None:
    """Raise UserError if --max_side is set for a protocol that resizes frames by a rule of its own."""
    native = 480, 854
    if max_side is not None and PROTOCOLS[options.protocol or "liir"][1].frame_size(*native) != native:
        raise UserError(f"--max_side: --protocol {options.protocol} resizes frames by a rule of its own; leave it out")


def protocol_name(protocol: str | None, encoder: str | None) -> str:
    """Return the value of --protocol, or its default."""
    return protocol or ("liir" if encoder is None else "crw")


def load_features(options: FeatureOptions, device: torch.device, *, soft: bool = False) -> Features:
    """Load the encoder and protocol that the options select; soft: store soft labels in every protocol."""
    try:
        require_backend(options.backend, device)
    except ValueError as error:
        raise UserError(f"--backend {error}") from error
    name = protocol_name(options.protocol, options.encoder)
    stride, protocol = PROTOCOLS[name]
    if name == "liir":
        policy = ReferencePolicy(options.ref)
        protocol = released_protocol(momentum=options.usemomen, compact=options.compact, policy=policy)
    elif options.compact or options.ref:
        raise UserError(f"--protocol {name}: --compact and --ref require the protocol liir; leave them out")
    if options.usemomen and options.encoder is not None and name != "liir":
        raise UserError("--usemomen: is for LIIR's checkpoints and protocol; leave it out with --encoder")
    if soft and isinstance(protocol, LocalProtocol):
        protocol = replace(protocol, soft=True, foreground_gain=1.0)
    identity = {"device": describe_device(device)}
    if options.encoder is None:
        encode = load_encoder(options.resume, device, usemomen=options.usemomen, amp=options.amp)
        identity["checkpoint_sha256"] = sha256(options.resume)
        stride, _ = PROTOCOLS["liir"]
        return Features(encode, protocol, stride, normalised_lab, options.backend, device, identity)
    if options.amp:
        raise UserError("--amp: not available with --encoder; set the precision in its function")
    encoder, identity["encoder_sha256"] = load_user_encoder(options.encoder, device)
    if not callable(encoder):
        raise UserError(f"--encoder {options.encoder}: returned {encoder!r}; it must return a callable encoder")
    stride, prepare = getattr(encoder, "stride", stride), getattr(encoder, "prepare", normalised_lab)
    if not isinstance(stride, int) or stride < 1:
        raise UserError(
            f"--encoder {options.encoder}: `stride` is {stride!r}; it must be the number of pixels per cell"
        )
    checked = CheckedEncoder(options.encoder, encoder, stride, prepare)
    with torch.inference_mode():
        checked(checked.prepare(np.zeros((8 * stride, 9 * stride, 3), np.uint8)).to(device)[None])
    return Features(checked, protocol, stride, checked.prepare, options.backend, device, identity)


def load_encoder(path: Path, device: torch.device, *, usemomen: bool, amp: bool = False) -> FoldedEncoder:
    """Load the encoder and pixel head of a checkpoint, folded for inference.

    amp: in bfloat16; on a CPU, with a warning if this is slower.
    """
    encoder = FoldedEncoder(load_network(path, usemomen=usemomen)).to(device)
    if not amp:
        return encoder
    mixed = copy.deepcopy(encoder).to(torch.bfloat16)
    if device.type == "cpu":
        warn_if_slower(mixed, encoder)
    return mixed


def load_network(path: Path, *, usemomen: bool) -> LIIR:
    """Load the network of a checkpoint without its training-only parts."""
    state = read_state_dict(path)
    momentum = any(name.startswith("conv_semantic_k.") for name in state)
    if usemomen and not momentum:
        warn(f"--usemomen: {path} has no key head (conv_semantic_k), it may not be an inter-video model")
    if momentum and not usemomen:
        warn(f"{path} has a key head (conv_semantic_k): if it is an inter-video model, pass --usemomen")
    model = LIIR()
    load_weights(model, state, path, unused=TRAINING_ONLY)
    return model.eval().requires_grad_(False)
