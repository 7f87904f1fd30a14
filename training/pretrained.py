"""Initialisation from the checkpoint of another training (--pretrain)."""

from pathlib import Path

from models.liir import LIIR
from utils.checkpoint import load_weights, read_state_dict


def load_pretrained(model: LIIR, path: Path) -> None:
    """Copy the weights of a checkpoint into the model; the key head becomes a copy of the region head.

    Heads that are missing in the checkpoint keep their initial values, a region head that the model lacks is ignored;
    UserError if other weights are missing or unknown.
    """
    unused = ("colorizer.", "conv_semantic_k.")
    state = {name: value for name, value in read_state_dict(path).items() if not name.startswith(unused)}
    heads = {name: value for name, value in model.state_dict().items() if name.startswith("conv_semantic")}
    if not heads:
        state = {name: value for name, value in state.items() if not name.startswith("conv_semantic.")}
    load_weights(model, {**heads, **state}, path)
    if hasattr(model, "conv_semantic_k"):
        model.conv_semantic_k.load_state_dict(model.conv_semantic.state_dict())
