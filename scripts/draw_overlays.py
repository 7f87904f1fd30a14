"""Draw frames of one sequence under their masks, side by side: the README's picture, or one of your own results.

python scripts/draw_overlays.py sample --masks data/sample/Annotations/480p --output docs/sample.jpg
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from dataloaders.davis import Sequence, list_predictions, load_sequences, read_ids
from dataloaders.video import read_frame
from utils.errors import UserError, run
from utils.options import ArgumentParser
from utils.visualize import overlay


def main() -> None:
    """Read the command line and write the picture."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sequence", help="its name")
    parser.add_argument("--datapath", type=Path, default=Path("data/sample"), help="DAVIS folder")
    parser.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="the benchmark's year")
    parser.add_argument("--set", default="val", help="list that has the sequence")
    parser.add_argument("--masks", type=Path, default=Path("results/sample/benchmark"), help="folder of MASKS/SEQUENCE")
    parser.add_argument("--columns", type=int, default=4, help="frames in the picture, evenly spaced")
    parser.add_argument("--output", type=Path, default=Path("overlays.jpg"), help="file for the picture")
    arguments = parser.parse_args()
    if arguments.columns < 1:
        parser.error(f"--columns {arguments.columns}: at least 1")
    (sequence,) = load_sequences(arguments.datapath, arguments.year, arguments.set, [arguments.sequence])
    picture = draw(sequence, arguments.masks / sequence.name, arguments.columns)
    try:
        Image.fromarray(picture).save(arguments.output)
    except (OSError, ValueError) as error:
        raise UserError(f"--output {arguments.output}: cannot be written ({error}); name a .jpg or .png") from error
    print(f"wrote {arguments.output}")


def draw(sequence: Sequence, masks: Path, columns: int) -> np.ndarray:
    """Evenly spaced frames under their masks, from the first to the last, RGB uint8 [H, columns * W, 3]."""
    paths = list_predictions(masks, sequence)
    chosen = np.linspace(0, len(paths) - 1, columns).round().astype(int)
    return np.hstack(
        [overlay(read_frame(sequence.frames[i]), read_ids(paths[i], binary=sequence.binary)) for i in chosen]
    )


if __name__ == "__main__":
    run(main)
