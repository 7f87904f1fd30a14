"""The deterministic weights that the golden tensors were computed with.

    state_dict = golden_state_dict({name: shape, ...}, head_scale=0.2)   # name -> float32 array (int64 for BN counters)

Every array depends on its own name alone, so a model may hold more or fewer of them. `head_scale` sharpens the
correlation: 0.08 gives soft attention (no window weight above 0.1), 0.2 a mix of soft and peaked windows.
"""

import zlib

import numpy as np

HEADS = ("post_convolution", "conv_semantic")


def golden_array(name, shape, head_scale):
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape)).astype(np.float32)
    if name.endswith("num_batches_tracked"):
        return np.zeros(tuple(shape), np.int64)
    if name.endswith("running_var"):
        return np.exp(0.1 * noise)
    if name.endswith(("running_mean", "pos_embed1")):
        return 0.1 * noise
    if len(shape) == 4:
        scale = head_scale if name.startswith(HEADS) else 1.0
        return noise * np.float32(np.sqrt(2.0 / (shape[0] * shape[2] * shape[3])) * scale)
    if name.endswith("weight"):
        return 1 + 0.1 * noise
    return 0.1 * noise


def golden_state_dict(shapes, head_scale):
    return {name: golden_array(name, shape, head_scale) for name, shape in shapes.items()}


def golden_queue(shape):
    """The feature queue's content before a step: [N, 128, 32, 32] float32."""
    return np.random.default_rng(zlib.crc32(b"feats_queue")).standard_normal(tuple(shape)).astype(
        np.float32
    ) * np.float32(0.3)
