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
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="--savepath of each evaluation by evaluate_davis.py")
    print("| " + " | ".join(("", *(column.removesuffix("-Mean") for column in COLUMNS))) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for folder in parser.parse_args().folders:
        scores = read_json(folder / "results.json").get("official")
        if scores is None:
            raise UserError(f"{folder / 'results.json'}: holds no scores; evaluate a set with ground truth")
        print("| " + " | ".join((folder.name, *(f"{100 * scores[column]:.1f}" for column in COLUMNS))) + " |")


if __name__ == "__main__":
    run_main(main)
