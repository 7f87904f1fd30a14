"""Checking downloaded data: complete data is counted; for missing or misplaced data it says what to do."""

import shutil
from functools import partial

import pytest

from dataloaders.layout import LAYOUTS
from scripts import check_data
from tests.support.commands import Outcome, require_refusal, require_success, run_script
from tests.support.davis import evaluate, mask_path, write_davis
from tests.support.youtube_vos import write_set


def check(*arguments: object) -> Outcome:
    return run_script(check_data, *arguments)


@pytest.fixture
def davis(tmp_path):
    return write_davis(tmp_path / "DAVIS", ("bear", "cow"))


def test_what_is_right_is_counted(davis):
    assert require_success(check("davis", davis)) == "2 videos (the whole set has 30), 6 frames: all there\n"


def test_each_video_that_cannot_be_used_is_named(davis):
    mask_path(davis, "bear", 0).unlink()
    shutil.rmtree(davis / "JPEGImages" / "480p" / "cow")
    outcome = check("davis", davis)
    require_refusal(outcome, davis, "2 of 2 videos")
    first, second = outcome.stdout.splitlines()
    assert first.startswith("bear: ") and "00000.png" in first
    assert second.startswith("cow: ") and "no such folder" in second


def test_misplaced_folders_are_found(davis):
    require_refusal(check("davis", davis.parent), f"pass --datapath {davis}")
    require_refusal(check("davis", davis / "JPEGImages"), f"pass --datapath {davis}")
    shutil.move(davis, davis.parent / "deep" / "deeper")
    require_refusal(check("davis", davis.parent), davis.parent / "deep" / "deeper")


def test_what_is_missing_is_told_with_where_to_get_it(davis):
    told = require_refusal(check("davis", davis, "--year", 2016), "ImageSets/2016: is missing", "contains 2017")
    assert told.endswith("pass --year 2017")
    (davis / "JPEGImages" / "480p").rename(davis / "JPEGImages" / "Full-Resolution")
    require_refusal(check("davis", davis), "JPEGImages/480p", "Full-Resolution", "davischallenge.org")
    shutil.rmtree(davis / "ImageSets")
    told = require_refusal(check("davis", davis / "JPEGImages"))
    assert told.endswith(f"pass the folder above, --datapath {davis}")
    (davis.parent / "valid.zip").touch()
    require_refusal(check("youtube-vos", davis.parent), "valid/meta.json", "unpack valid.zip")


def test_an_option_with_which_the_folder_is_whole_is_named(davis):
    """DAVIS-2016 has no list of 2017; evaluate_davis.py says the same."""
    (davis / "ImageSets" / "2017").rename(davis / "ImageSets" / "2016")
    (davis / "ImageSets" / "480p").mkdir()
    for command in (partial(check, "davis"), partial(evaluate, "--datapath")):
        require_refusal(command(davis), "ImageSets/2017: is missing", "pass --year 2016")
    require_success(check("davis", davis, "--year", 2016))
    shutil.rmtree(davis / "ImageSets" / "2016")
    assert "--year" not in require_refusal(check("davis", davis), "ImageSets/2017: is missing", "contains 480p")


def test_a_subset_that_is_there_is_named(tmp_path):
    write_set(tmp_path)
    require_refusal(check("youtube-vos", tmp_path, "--subset", "test"), "test/meta.json", "pass --subset valid")


def test_leftovers_are_no_part_of_the_data(davis):
    for name in ("._valid.zip", ".DS_Store", "__MACOSX"):
        (davis.parent / name).touch()
    (davis / "JPEGImages" / "480p" / "bear" / "._00000.jpg").touch()
    (davis / "Annotations" / "480p" / "bear" / "._00000.png").touch()
    assert "6 frames: all there" in require_success(check("davis", davis))
    assert "unpack" not in require_refusal(check("youtube-vos", davis.parent))


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_benchmark_tells_what_it_needs(name, tmp_path):
    require_refusal(check(name, tmp_path / "none"), "no such folder", LAYOUTS[name].source)
    require_refusal(check(name, tmp_path), "is missing", LAYOUTS[name].source)
