"""Reading whole files: what cannot be read raises UserError."""

from pathlib import Path

import pytest

from dataloaders.files import read_bytes
from utils.errors import UserError


def test_a_path_that_the_system_refuses(tmp_path):
    """A name is too long for any file; a parent is no folder."""
    (tmp_path / "file").touch()
    for path, reason in ((Path("x" * 300), "name too long"), (tmp_path / "file" / "x", "Not a directory")):
        with pytest.raises(UserError, match=f"{path}: cannot be read .*{reason}"):
            read_bytes(path)
