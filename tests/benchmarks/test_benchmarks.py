"""The benchmarks run; what they measure is not judged here."""

import json
import subprocess
import sys

import pytest

from tests.support.repository import ROOT


@pytest.mark.parametrize(
    "name",
    ["metrics", *(pytest.param(name, marks=pytest.mark.soak) for name in ("attention", "propagation", "training"))],
)
def test_benchmark(name, tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", "--runs", "1", "--device", "cpu", "--json", path]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    results = json.loads(path.read_text())
    assert results["machine"]["torch"]
    assert " x" in process.stdout
