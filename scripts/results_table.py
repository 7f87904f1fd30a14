"""Print the scores of DAVIS evaluations as a Markdown table.

python scripts/results_table.py results/plain results/full
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from utils.errors import UserError, run_main
from utils.options import ArgumentParser
from utils.savepath import read_json

COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")


def main() -> None:
    """Read the command line and print one row per evaluation."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="--savepath of each evaluation by evaluate_davis.py")
    rows = [(folder.resolve().name, *scores_of(folder)) for folder in parser.parse_args().folders]
    for row in (("", *(column.removesuffix("-Mean") for column in COLUMNS)), ("---",) * (len(COLUMNS) + 1), *rows):
        print("| " + " | ".join(row) + " |")


def scores_of(folder: Path) -> list[str]:
    """Return the scores of an evaluation in percent; UserError if its folder has none."""
    path = folder / "results.json"
    if not path.exists():
        raise UserError(f"{path}: no such file; pass the --savepath of an evaluate_davis.py that has ended")
    scores = read_json(path, way_out="evaluate again").get("official")
    if scores is None:
        raise UserError(f"{path}: holds no scores; evaluate a DAVIS set with ground truth")
    try:
        return [f"{100 * scores[column]:.1f}" for column in COLUMNS]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error!r} in the scores); evaluate again") from error


if __name__ == "__main__":
    run_main(main)
