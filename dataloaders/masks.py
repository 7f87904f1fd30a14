"""Masks: images of object ids; a damaged or unsuitable file raises UserError."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dataloaders.files import read_bytes
from dataloaders.frames import reason
from utils.errors import UserError

FORMATS = ("PNG", "BMP", "GIF", "TIFF")  # lossless formats; for some others Pillow runs programs
BLURRED = ("JPEG",)


def read_mask(path: Path) -> np.ndarray:
    """Read the ids of a mask, uint8 [H, W], rotated according to its EXIF orientation.

    UserError unless it is an indexed or 8-bit grey image in a lossless format.
    """
    data = read_bytes(path)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS + BLURRED) as image:
            mode, kind = image.mode, image.format
            ids = np.array(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow raises many types for damaged files
        raise UserError(f"{path}: not a mask that can be decoded ({reason(error)}); replace the file") from error
    if kind in BLURRED:
        raise UserError(f"{path}: a mask must not be {kind}, which does not preserve ids; export it as PNG instead")
    if mode not in ("P", "L", "1"):
        raise UserError(f"{path}: a mask must be an indexed or 8-bit grey image of object ids, not {mode}; convert it")
    return ids.astype(np.uint8)
