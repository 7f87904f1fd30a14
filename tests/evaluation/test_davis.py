"""Tables and summaries of DAVIS scores, by hand and as the official tool computes them (docs/method.md §9)."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dataloaders.davis import load_sequences
from dataloaders.frames import read_frame
from evaluation.davis import davis_section, write_results
from evaluation.report_pictures import error_map
from functional.metrics import object_summary, statistics
from tests.support.davis import SCRIPT, write_davis
from tests.support.davis_scores import GLOBAL_COLUMNS, HEADLINE, OBJECTS, STATISTICS
from tests.support.images import mask_pixels
from utils.visualize import overlay, write_mask

SCORED = ("blackswan", "car-shadow", "dog", "drift-straight", "libby")


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_tables_weigh_objects_not_sequences(tmp_path, capsys):
    records = {
        "pair": {"frames": 6, "seconds": 3.0, "peak_memory": 70, "objects": {1: OBJECTS[0], 7: OBJECTS[1]}},
        "alone": {"frames": 3, "seconds": 1.5, "peak_memory": 50, "objects": {2: OBJECTS[2]}},
    }
    write_results(tmp_path, "test-dev", {"year": 2017}, records)
    header, row = read_csv(tmp_path / "global_results-test-dev.csv")
    assert header == GLOBAL_COLUMNS
    assert [float(value) for value in row] == pytest.approx(list(HEADLINE.values()))
    header, *rows = read_csv(tmp_path / "per-sequence_results-test-dev.csv")
    assert header == ["Sequence", "J-Mean", "F-Mean"]
    assert [name for name, *_ in rows] == ["pair_1", "pair_7", "alone_2"]
    assert [float(value) for _, *values in rows for value in values] == pytest.approx([0.7, 0.7, 0.4, 0.6, 0.1, 1])
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["official"] == pytest.approx(HEADLINE)
    assert results["legacy"] == pytest.approx({"J&F-Mean": 0.505, "J-Mean": 0.5, "F-Mean": 0.51})
    assert (results["seconds_per_frame"], results["peak_memory"]) == (0.5, 70)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:3] == ["pair_1 J 70.0 F 70.0", "pair_7 J 40.0 F 60.0", "alone_2 J 10.0 F 100.0"]
    assert lines[3].startswith("DAVIS (official) J&F 58.3 J 40.0 ")
    assert lines[4] == "legacy (pooled) J&F 50.5 J 50.0 F 51.0"


def test_the_section_of_a_sequence_shows_its_worst_frames(tmp_path):
    (sequence,) = load_sequences(write_davis(tmp_path / "davis", frames=4, objects=(1, 2)), 2017, "val")
    masks = [tmp_path / f"{index}.png" for index in range(4)]
    for path in masks:
        write_mask(path, mask_pixels(0, (1, 7)))
    record = {"objects": {"1": {"J": [0.9, 0.0, 0.5], "F": [0.7, 0.2, 0.5]}}}
    assert davis_section(sequence, masks, record, tmp_path).video == ""
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "bear.mp4").touch()
    section = davis_section(sequence, masks, record, tmp_path)
    assert section.video == "overlay/bear.mp4"
    assert section.scores == pytest.approx({"J&F": 0.45, "J": 0.45, "F": 0.45})  # without the last frame
    assert (section.first, section.curves) == (1, {"J of 1": [0.9, 0.0, 0.5], "F of 1": [0.7, 0.2, 0.5]})
    assert [picture.caption for picture in section.pictures] == ["frame 2: 10.0", "frame 3: 50.0", "frame 1: 80.0"]
    for index, picture in zip((2, 3, 1), section.pictures, strict=True):
        frame = read_frame(sequence.frames[index])
        assert np.array_equal(picture.pixels, overlay(frame, mask_pixels(0, (1, 7))))
        errors = error_map(frame, mask_pixels(0), mask_pixels(index))  # of object 1, the one that is scored
        assert np.array_equal(picture.errors, errors)


# Parity with the official tool


@pytest.fixture(scope="module")
def official(shared) -> dict:
    """The official tool's scores of the OSVOS masks."""
    return json.loads((shared / "golden/davis_measures_osvos.json").read_text())


@pytest.fixture(scope="module")
def evaluated(shared, tmp_path_factory) -> Path:
    """The results of evaluate_davis.py for the same masks."""
    savepath = tmp_path_factory.mktemp("osvos")
    command = [sys.executable, SCRIPT, "--datapath", shared / "davis", "--year", "2016"]
    command += ["--sequences", ",".join(SCORED), "--predictions", shared / "osvos", "--savepath", savepath]
    result = subprocess.run(command, cwd=savepath.parent, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return savepath


@pytest.fixture(scope="module")
def results(evaluated) -> dict:
    return json.loads((evaluated / "results.json").read_text())


def per_object(results: dict) -> dict[str, dict[str, list[float]]]:
    """The scores of each object by its name in the official tables."""
    return {
        f"{sequence}_{number}": scores
        for sequence, record in results["sequences"].items()
        for number, scores in record["objects"].items()
    }


@pytest.mark.parity
def test_statistics_are_the_official_ones(official):
    for scores in official["objects"].values():
        for measure in "JF":
            found = statistics(scores[measure])
            np.testing.assert_allclose([found[name] for name in STATISTICS], scores[f"{measure}_stats"], 0, 1e-6)


@pytest.mark.parity
def test_frames_score_as_in_the_official_tool(official, results):
    found = per_object(results)
    assert found.keys() == official["objects"].keys() == {f"{sequence}_1" for sequence in SCORED}
    for name, wanted in official["objects"].items():
        for measure in "JF":
            assert len(found[name][measure]) == results["sequences"][name.removesuffix("_1")]["frames"] - 1
            # The official arrays leave the last frame out; ours end with it, for the legacy measure.
            np.testing.assert_allclose(found[name][measure][:-1], wanted[measure], rtol=0, atol=1e-6)


@pytest.mark.parity
def test_objects_are_summarised_as_in_the_official_tool(official, results):
    for name, scores in per_object(results).items():
        summary = object_summary(scores)
        for measure in "JF":
            found = [summary[f"{measure}-{statistic}"] for statistic in STATISTICS]
            np.testing.assert_allclose(found, official["objects"][name][f"{measure}_stats"], rtol=0, atol=1e-6)


@pytest.mark.parity
def test_the_headline_is_the_official_one(official, results):
    assert results["official"].keys() == set(GLOBAL_COLUMNS)
    assert results["official"] == pytest.approx(official["global_"], rel=0, abs=1e-6)


@pytest.mark.parity
def test_legacy_is_told_beside_the_headline(results):
    objects = per_object(results).values()
    j, f = (np.mean([value for scores in objects for value in scores[measure]]) for measure in "JF")
    assert results["legacy"] == pytest.approx({"J&F-Mean": (j + f) / 2, "J-Mean": j, "F-Mean": f}, rel=0, abs=1e-9)
    assert results["legacy"]["J&F-Mean"] != pytest.approx(results["official"]["J&F-Mean"], abs=1e-4)


@pytest.mark.parity
def test_global_csv_is_the_official_table(official, evaluated):
    header, row = read_csv(evaluated / "global_results-val.csv")
    assert header == GLOBAL_COLUMNS
    np.testing.assert_allclose([float(value) for value in row], [official["global_"][name] for name in header], 0, 1e-6)


@pytest.mark.parity
def test_per_sequence_csv_is_the_official_table(official, evaluated):
    header, *rows = read_csv(evaluated / "per-sequence_results-val.csv")
    assert header == ["Sequence", "J-Mean", "F-Mean"]
    assert [name for name, *_ in rows] == [f"{sequence}_1" for sequence in SCORED]
    for name, *values in rows:
        wanted = [official["objects"][name][f"{measure}_stats"][0] for measure in "JF"]
        np.testing.assert_allclose([float(value) for value in values], wanted, rtol=0, atol=1e-6)
