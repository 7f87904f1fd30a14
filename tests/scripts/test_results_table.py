"""The table of scores in Markdown."""

import pytest

from scripts import results_table
from tests.support.commands import require_refusal, run_script
from tests.support.davis import evaluate


def test_table(data, tmp_path):
    scores = tmp_path / "scores"
    truth = data / "Annotations" / "480p"
    assert evaluate("--predictions", truth, "--datapath", data, "--savepath", scores).code == 0
    outcome = run_script(results_table, scores)
    assert outcome.stdout.splitlines()[2] == "| scores | 100.0 | 100.0 | 100.0 | 0.0 | 100.0 | 100.0 | 0.0 |"
    outcome = run_script(results_table, scores, tmp_path)
    line = require_refusal(outcome, tmp_path / "results.json", "no such file", "--savepath")
    assert "--overwrite" not in line
    assert not outcome.stdout


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "no scores"),
        ('{"official": {}}', "J&F-Mean"),
        ('{"official": 3}', ""),
    ],
)
def test_folders_without_scores(content, told, tmp_path):
    """The advice names no option that this script does not have."""
    (tmp_path / "results.json").write_text(content)
    assert "--overwrite" not in require_refusal(run_script(results_table, tmp_path), "results.json", told)
