"""Whether --amp pays in a training."""

import copy

import torch
from torch import Tensor

from training.step import Training
from utils.bfloat16 import warn_if_slower


def warn_if_amp_is_slower(training: Training) -> None:
    """On a CPU, warn if the encoder is slower with --amp than without; the training is left as it is."""
    if not training.recipe.amp or training.world.device.type != "cpu" or not training.world.leads:
        return
    mixed = copy.deepcopy(training.model).eval()
    plain = copy.deepcopy(mixed).to(memory_format=torch.contiguous_format)

    def encode_mixed(frame: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return mixed.encode(frame)

    with torch.inference_mode():
        warn_if_slower(encode_mixed, plain.encode)
