"""The zip for the YouTube-VOS server: what the server would refuse is refused here."""

import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from dataloaders.youtube_vos import load_videos
from evaluation import submission
from evaluation.submission import validate
from tests.support.commands import require_refusal, require_success
from tests.support.youtube_vos import SIZE, evaluate, write_set
from utils.errors import UserError
from utils.visualize import write_mask


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path)


def replace_member(path, name, data):
    """Replace the content of a zip's member; None removes it."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()} | {name: data}
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            if content is not None:
                archive.writestr(member, content)


def png(mask: np.ndarray, tmp_path, *modes: str) -> bytes:
    """The PNG of a mask, converted to these image modes one after another."""
    write_mask(tmp_path / "x.png", mask)
    for mode in modes:
        image = Image.open(tmp_path / "x.png").convert(mode)
        if mode == "P":
            image.putpalette([9] * 768)  # grey
        image.save(tmp_path / "x.png")
    return (tmp_path / "x.png").read_bytes()


def test_what_the_server_would_refuse(root, tmp_path):
    require_success(evaluate(root))
    videos = load_videos(root, "valid", None, all_frames=False)
    path, member = root / "results" / "submission.zip", "Annotations/early/00010.png"
    validate(path, videos)
    empty = np.zeros(SIZE, np.uint8)
    for name, data, told in (
        (member, None, "lacks"),
        ("Annotations/early/00011.png", b"", "not wanted"),
        (member, b"junk", "decoded"),
        (member, png(empty, tmp_path, "L"), "palette"),
        (member, png(empty[1:], tmp_path), "48x31"),
        (member, png(empty + 2, tmp_path), "object 2"),
        (member, png(empty, tmp_path, "L", "P"), "palette"),
    ):
        shutil.copy(path, tmp_path / "damaged.zip")
        replace_member(tmp_path / "damaged.zip", name, data)
        with pytest.raises(UserError, match=told):
            validate(tmp_path / "damaged.zip", videos)
    (tmp_path / "damaged.zip").write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="read again"):
        validate(tmp_path / "damaged.zip", videos)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(member, png(empty, tmp_path))
    with pytest.raises(UserError, match="twice"):
        validate(path, videos)


def test_what_is_packed_is_checked(root, monkeypatch):
    def pack(savepath, videos):
        replace_member(path := submission.pack(savepath, videos), "Annotations/late/00005.png", None)
        return path

    monkeypatch.setattr("evaluation.youtube_vos.pack", pack)
    require_refusal(evaluate(root), "lacks Annotations/late/00005.png")
