"""What makes two runs the same is stated for every option of every script."""

import argparse
from dataclasses import fields
from types import ModuleType
from unittest.mock import patch

import pytest

import evaluate_davis
import evaluate_jhmdb
import evaluate_vip
import evaluate_youtube_vos
import propagate
import train
from evaluation.features import FeatureOptions
from utils.options import ArgumentParser

FEATURES = {field.name for field in fields(FeatureOptions)}
OF_ANY_RUN = {"help", "savepath", "overwrite", "local_rank"}
FREE = {  # options that may change between two runs that are the same one
    evaluate_davis: {"predictions", "report"},
    evaluate_youtube_vos: {"seen", "report"},
    evaluate_vip: {"without_first", "report"},
    evaluate_jhmdb: {"with_first", "all_joints", "box", "report"},
    propagate: {"mask"},  # compared by the contents of the files
}
TRAINING_FREE = {"validpath", "resume", "epochs", "steps", "worker", "save_every", "log_every"}


def options_of(script: ModuleType) -> set[str]:
    """The names of all options that a script takes."""
    parsers = []

    def stop(parser: ArgumentParser, *_: object) -> argparse.Namespace:
        parsers.append(parser)
        raise SystemExit

    with patch.object(ArgumentParser, "parse_args", stop), pytest.raises(SystemExit):
        script.parse_arguments()
    return {action.dest for action in parsers[0]._actions}


@pytest.mark.parametrize("script", FREE, ids=lambda script: script.__name__)
def test_every_option_is_compared_or_free(script):
    compared = FEATURES | set(script.SAME_RUN)
    assert not compared & FREE[script]
    assert compared | FREE[script] | OF_ANY_RUN == options_of(script)


def test_every_option_of_a_training_is_compared_or_free():
    assert not set(train.SAME_TRAINING) & TRAINING_FREE
    assert set(train.SAME_TRAINING) | TRAINING_FREE | OF_ANY_RUN == options_of(train)
