"""Lists of videos, and the choice of some of them."""

from pathlib import Path

import pytest

from dataloaders.lists import choose, read_list
from utils.errors import UserError


def test_videos_are_chosen_in_the_order_of_the_list():
    assert choose(["b", "a", "c"], ["c", "b"], Path("list.txt")) == ["b", "c"]
    with pytest.raises(UserError, match=r"--videos d,e: .*list\.txt"):
        choose(["b", "a", "c"], ["d", "a", "e"], Path("list.txt"))


def test_leftovers_in_a_list_are_no_videos(tmp_path):
    (tmp_path / "list.txt").write_text(".DS_Store\nbear\n._bear\n__MACOSX\nThumbs.db\n.hidden\n")
    assert read_list(tmp_path / "list.txt", way_out="") == ["bear", ".hidden"]
