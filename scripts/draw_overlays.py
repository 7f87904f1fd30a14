"""Draw frames of one sequence overlaid with their masks, side by side.

python scripts/draw_overlays.py sample --masks data/sample/Annotations/480p --output docs/sample.jpg
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from dataloaders.davis import Sequence, list_predictions, load_sequences, read_ids
from dataloaders.frames import read_frame
from utils.errors import UserError, run_main
from utils.options import ArgumentParser, at_least
from utils.visualize import overlay


def main() -> None:
    """Read the command line and write the picture."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("sequence", help="name of the sequence")
    parser.add_argument("--datapath", type=Path, default=Path("data/sample"), help="DAVIS folder")
    parser.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="the benchmark's year")
    parser.add_argument("--set", default="val", help="list of sequences in ImageSets")
    parser.add_argument(
        "--masks", type=Path, default=Path("results/sample/benchmark"), help="folder that holds SEQUENCE/00000.png …"
    )
    parser.add_argument("--columns", type=at_least(1), default=4, help="number of frames, evenly spaced")
    parser.add_argument("--output", type=Path, default=Path("overlays.jpg"), help="picture to write")
    arguments = parser.parse_args()
    (sequence,) = load_sequences(arguments.datapath, arguments.year, arguments.set, [arguments.sequence])
    picture = draw(sequence, arguments.masks / sequence.name, arguments.columns)
    try:
        Image.fromarray(picture).save(arguments.output)
    except (OSError, ValueError) as error:
        raise UserError(f"--output {arguments.output}: cannot be written ({error}); name a .jpg or .png") from error
    print(f"wrote {arguments.output}")


def draw(sequence: Sequence, masks: Path, columns: int) -> np.ndarray:
    """Evenly spaced frames, the first to the last, overlaid with their masks: RGB uint8 [H, columns * W, 3]."""
    paths = list_predictions(masks, sequence)
    chosen = np.linspace(0, len(paths) - 1, columns).round().astype(int)
    return np.hstack(
        [overlay(read_frame(sequence.frames[i]), read_ids(paths[i], binary=sequence.binary)) for i in chosen]
    )


if __name__ == "__main__":
    run_main(main)
