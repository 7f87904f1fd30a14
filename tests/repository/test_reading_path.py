"""From a script to the softmax: few calls, and never back from a lower package to a higher one."""

import inspect
from pathlib import Path

import pytest
import torch

import evaluate_davis
import evaluate_vip
import evaluate_youtube_vos
import propagate
from tests.support.commands import require_success, run_script
from tests.support.davis import mask_path, write_davis
from tests.support.repository import ROOT
from tests.support.vip import write_set as write_vip
from tests.support.youtube_vos import write_set as write_youtube_vos

ORDER = ("", "evaluation", "models", "functional")  # "" is a script at the top
MOST_CALLS = 6


def write_video(folder: Path) -> tuple[object, ...]:
    data = write_davis(folder / "davis")
    return data / "JPEGImages/480p/bear", "--mask", mask_path(data, "bear", 0)


SCRIPTS = {
    evaluate_davis: lambda folder: ("--datapath", write_davis(folder / "davis")),
    evaluate_youtube_vos: lambda folder: ("--datapath", write_youtube_vos(folder / "set")),
    evaluate_vip: lambda folder: ("--datapath", write_vip(folder / "set"), "--size", 32),
    propagate: write_video,
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_calls_from_main_to_the_softmax(script, checkpoint, tmp_path, monkeypatch):
    paths = []
    softmax = torch.softmax

    def recording(*arguments: object, **options: object) -> torch.Tensor:
        frames = [Path(frame.filename) for frame in inspect.stack(context=0)[1:]]
        names = [path.relative_to(ROOT).as_posix() for path in frames if path.is_relative_to(ROOT)]
        paths.append([name for name in names if not name.startswith((".venv", "tests", "utils"))][::-1])
        return softmax(*arguments, **options)

    options = SCRIPTS[script](tmp_path)
    monkeypatch.setattr(torch, "softmax", recording)
    require_success(run_script(script, *options, "--resume", checkpoint, "--savepath", tmp_path / "results"))
    assert paths
    for path in paths:
        assert path[0] == f"{script.__name__}.py"
        assert path[-1] == "functional/attention.py"
        assert len(path) - 1 <= MOST_CALLS, path
        levels = [ORDER.index(name.rpartition("/")[0].partition("/")[0]) for name in path]
        assert levels == sorted(levels), path
