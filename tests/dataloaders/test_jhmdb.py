"""Reading JHMDB."""

from dataloaders.jhmdb import list_jhmdb, load_jhmdb
from tests.support.jhmdb import write_set


def test_leftovers_are_no_lists_and_no_frames(tmp_path):
    root = write_set(tmp_path)
    (root / "splits" / "._wave_test_split1.txt").write_bytes(b"\0\5\x16\7")
    (root / "splits" / "wave_test_split1.txt").write_text("wave_test.avi 2\n._wave_test.avi 2\n")
    (root / "Rename_Images" / "wave" / "wave_test" / "._00001.png").touch()
    assert list_jhmdb(root) == ["push/push_test", "wave/wave_test"]
    assert [len(video.frames) for video in load_jhmdb(root, None)] == [4, 4]
