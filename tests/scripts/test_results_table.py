"""The table of scores in Markdown."""

from scripts import results_table
from tests.support.commands import require_refusal, run_script
from tests.support.davis import evaluate


def test_table(data, tmp_path):
    scores = tmp_path / "scores"
    truth = data / "Annotations" / "480p"
    assert evaluate("--predictions", truth, "--datapath", data, "--savepath", scores).code == 0
    outcome = run_script(results_table, scores)
    assert outcome.stdout.splitlines()[2] == "| scores | 100.0 | 100.0 | 100.0 | 0.0 | 100.0 | 100.0 | 0.0 |"
    require_refusal(run_script(results_table, tmp_path), "results.json")
