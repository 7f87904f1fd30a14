"""Input files are told apart by name, size and modification time."""

import json
from pathlib import Path

import pytest

from tests.support.files import touch
from utils.inputs import changes, describe_inputs


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    for name in ("a/0.png", "a/1.png", "b.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return [tmp_path / "a" / "0.png", tmp_path / "a" / "1.png", tmp_path / "b.json"]


def test_the_same_files_by_another_path_are_the_same(paths, tmp_path, monkeypatch):
    before = json.loads(json.dumps(describe_inputs(paths)))
    monkeypatch.chdir(tmp_path)
    assert not changes(before, describe_inputs([path.relative_to(tmp_path) for path in paths]))


def test_every_change_is_told(paths):
    before, (first, second, third) = describe_inputs(paths), paths
    assert changes(before, describe_inputs([*paths, third.with_name("c")])) == f"{third.with_name('c')} was added"
    assert changes(before, describe_inputs(paths[:2])) == f"{third} was removed"
    touch(first)
    assert changes(before, describe_inputs(paths)) == f"{first} was modified"
    first.write_text("longer than it was")
    assert changes(before, describe_inputs(paths)) == f"{first} had 7 bytes and has 18"
    second.unlink()
    touch(third)
    assert changes(before, describe_inputs(paths[1:])) == f"{first} was removed, and 2 more files differ"
