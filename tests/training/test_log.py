"""The log of a training: its lines, scalars and progress bar."""

import json
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.log import TrainingLog


def test_lines_after_the_checkpoint_are_dropped(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    TrainingLog(tmp_path, 2).close()
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_speed_is_that_of_this_process(tmp_path, monkeypatch, capsys):
    """2 steps of 6 pairs in 4 seconds, 100 steps before; 30 steps are left."""
    clock = iter((10.0, 14.0))
    monkeypatch.setattr("training.log.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    log = TrainingLog(tmp_path, 100)
    log.write(102, {"total": 0.5}, batch=6, steps_left=30)
    log.close()
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"step": 102, "total": 0.5, "pairs_per_second": 3}
    assert "0:01:00 left" in capsys.readouterr().out
    (event,) = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("total")
    assert (event.step, event.value) == (102, pytest.approx(0.5))


def test_values_are_appended(tmp_path):
    log = TrainingLog(tmp_path, 0)
    for step in (1, 2):
        log.write(step, {}, batch=1, steps_left=0)
    log.close()
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2]


def test_the_bar_goes_on_where_the_checkpoint_was(tmp_path):
    log = TrainingLog(tmp_path, 100)
    for steps_left in (9, 8):
        log.advance(steps_left)
    assert (log.bar.n, log.bar.total) == (102, 110)
    log.close()
    assert log.bar.disable
