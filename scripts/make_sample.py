"""Compose a short clip of two objects with exact masks, in the DAVIS-2017 layout, from scikit-image's photographs.

An astronaut (object 1) drifts through the Hubble deep field while a cup on its flying saucer (object 2) passes
behind her head. The photographs are in the public domain or CC0 and ship with scikit-image: nothing is downloaded.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from skimage import data

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from utils.errors import UserError, run_main
from utils.options import ArgumentParser
from utils.visualize import write_mask

NAME = "sample"
HEIGHT, WIDTH, FRAMES = 240, 432, 24
SUPERSAMPLE = 3  # frames are drawn this much larger and area-averaged down: sharp textures without aliasing
FEATHER = 0.8  # blur of an outline, in pixels of its photograph
JPEG_QUALITY = 95

# Silhouettes as polygons (x, y) in pixels of the photograph, drawn just inside the edge to leave its backdrop out.
# fmt: off
ASTRONAUT = (
    (201, 25), (189, 37), (162, 54), (155, 66), (155, 90), (158, 102), (170, 115), (174, 125), (183, 133), (183, 146),
    (180, 149), (155, 152), (143, 158), (133, 167), (124, 180), (121, 193), (114, 205), (91, 228), (79, 235), (64, 250),
    (49, 276), (41, 296), (40, 307), (27, 345), (27, 368), (20, 392), (21, 416), (25, 430), (24, 458), (27, 482),
    (31, 493), (40, 506), (40, 511), (511, 511), (511, 492), (508, 492), (492, 476), (492, 468), (499, 461), (499, 457),
    (494, 452), (493, 428), (489, 412), (475, 383), (452, 361), (419, 347), (395, 345), (375, 349), (363, 348),
    (359, 343), (359, 331), (356, 324), (356, 312), (351, 289), (339, 264), (331, 255), (302, 233), (298, 221),
    (287, 203), (255, 173), (255, 162), (263, 147), (265, 138), (273, 133), (288, 117), (295, 105), (299, 90),
    (295, 61), (286, 43), (274, 32), (248, 20), (230, 17),
)
CUP = (
    (280, 20), (246, 26), (220, 37), (204, 48), (189, 65), (154, 84), (133, 100), (118, 114), (100, 138), (88, 162),
    (80, 192), (79, 225), (83, 250), (87, 264), (100, 290), (118, 317), (143, 340), (170, 359), (186, 366), (216, 378),
    (254, 386), (289, 387), (324, 383), (366, 370), (399, 354), (422, 336), (446, 310), (462, 282), (470, 264),
    (474, 244), (476, 211), (472, 184), (460, 152), (444, 128), (418, 100), (423, 79), (422, 75), (418, 70), (409, 68),
    (404, 68), (395, 74), (375, 51), (360, 40), (348, 33), (315, 22),
)
# fmt: on


Sources = dict[int, tuple[np.ndarray, np.ndarray]]  # an object's id -> photograph [h, w, 3], alpha [h, w]


class Layer(NamedTuple):
    """A photograph, its silhouette, and the path of its pivot: poses are (x, y, scale, degrees) in the frame."""

    photograph: str
    outline: tuple[tuple[int, int], ...] | None  # None: the whole photograph, as the background
    pivot: tuple[int, int]
    start: tuple[float, float, float, float]
    end: tuple[float, float, float, float]
    bow: tuple[float, float, float, float]  # added in full halfway, nothing at either end


# Back to front; a key is the object's id, 0 being the background. The astronaut is cut off by her photograph's lower
# border, which therefore stays below the frame.
LAYERS = {
    0: Layer("hubble_deep_field", None, (480, 470), (236, 126, 0.78, 0), (196, 114, 0.88, 2), (0, 0, 0, 0)),
    2: Layer("coffee", CUP, (278, 210), (142, 86, 0.26, -16), (304, 74, 0.29, 14), (0, -5, 0, 0)),
    1: Layer("astronaut", ASTRONAUT, (228, 160), (250, 112, 0.41, -4), (194, 112, 0.44, 4), (0, 8, 0, 0)),
}


def load(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """A layer's photograph, uint8 [h, w, 3], and its alpha, [h, w] in [0, 1]."""
    photograph = getattr(data, layer.photograph)()
    if layer.outline is None:
        return photograph, np.ones(photograph.shape[:2], np.float32)
    alpha = np.zeros(photograph.shape[:2], np.float32)
    cv2.fillPoly(alpha, [np.array(layer.outline, np.int32)], 1.0)
    return photograph, cv2.GaussianBlur(alpha, (0, 0), FEATHER)


def placement(layer: Layer, t: float) -> np.ndarray:
    """The affine map [2, 3] from the photograph to the supersampled frame at time t in [0, 1]."""
    start, end, bow = map(np.array, (layer.start, layer.end, layer.bow))
    x, y, scale, degrees = start + (end - start) * t + bow * np.sin(np.pi * t)
    matrix = cv2.getRotationMatrix2D(layer.pivot, degrees, scale * SUPERSAMPLE)
    shift = np.array((x, y)) * SUPERSAMPLE - layer.pivot
    matrix[:, 2] = matrix[:, 2] + shift
    return matrix


def render(sources: Sources, t: float) -> tuple[np.ndarray, np.ndarray]:
    """The frame, uint8 [H, W, 3], and its mask of visible ids, uint8 [H, W], at time t in [0, 1]."""
    canvas = (WIDTH * SUPERSAMPLE, HEIGHT * SUPERSAMPLE)
    frame: np.ndarray = np.zeros((canvas[1], canvas[0], 3), np.float32)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for identity, (photograph, alpha) in sources.items():
        matrix = placement(LAYERS[identity], t)
        colour = cv2.warpAffine(photograph, matrix, canvas, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        cover = cv2.warpAffine(alpha, matrix, canvas, flags=cv2.INTER_LINEAR)
        frame += cover[..., None] * (colour - frame)
        mask[cv2.resize(cover, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) > 0.5] = identity
    frame = cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8), mask


def load_all() -> Sources:
    """The photograph and alpha of each layer, by its object's id."""
    return {number: load(layer) for number, layer in LAYERS.items()}


def write_sample(sources: Sources, output: Path) -> None:
    """Write the clip's frames, masks and list of sequences to a folder."""
    images, masks = (output / kind / "480p" / NAME for kind in ("JPEGImages", "Annotations"))
    sets = output / "ImageSets" / "2017"
    for folder in (images, masks, sets):
        folder.mkdir(parents=True, exist_ok=True)
    for index in range(FRAMES):
        frame, mask = render(sources, index / (FRAMES - 1))
        Image.fromarray(frame).save(images / f"{index:05d}.jpg", quality=JPEG_QUALITY)
        write_mask(masks / f"{index:05d}.png", mask)
    (sets / "val.txt").write_text(f"{NAME}\n")


def main() -> None:
    """Read the command line and write the sample clip."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("data/sample"), help="folder to write the clip to")
    output = parser.parse_args().output
    sources = load_all()
    try:
        write_sample(sources, output)
    except OSError as error:
        raise UserError(f"--output {output}: cannot write there ({error}); name a folder you can write to") from error
    print(f"wrote {FRAMES} frames of {HEIGHT}x{WIDTH} with the masks of 2 objects to {output}")


if __name__ == "__main__":
    run_main(main)
