"""The palette of DAVIS and VOC masks."""

import numpy as np


def davis_palette() -> np.ndarray:
    """Return the palette of DAVIS and VOC masks, RGB uint8 [256, 3]; the bits of an id alternate over the channels."""
    ids = np.arange(256)[:, None]
    channels = np.arange(3)
    colours = np.sum([((ids >> (3 * bit + channels)) & 1) << (7 - bit) for bit in range(8)], axis=0)
    return colours.astype(np.uint8)
