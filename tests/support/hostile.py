"""Writers of damaged and malicious files; a Maker is a function of the path to write."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import numpy as np
import scipy.io

Maker = Callable[[Path], object]


def bytes_of(content: bytes) -> Maker:
    """Writes these bytes."""
    return lambda path: path.write_bytes(content)


def text_of(content: str) -> Maker:
    return bytes_of(content.encode())


def replaced(old: str, new: str) -> Maker:
    """Changes a text file's text; it must be there."""

    def make(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return make


def become_pipe(path: Path) -> None:
    """Replace a file by a pipe; a thread opens it and writes nothing, so that no test hangs."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    Thread(target=lambda: path.open("wb").close(), daemon=True).start()


def positions(change: Callable[[np.ndarray], object]) -> Maker:
    """Changes JHMDB's joints in their file."""

    def make(path: Path) -> None:
        joints = scipy.io.loadmat(path)["pos_img"]
        scipy.io.savemat(path, {"pos_img": change(joints)})

    return make


def annotated(**changes: object) -> Maker:
    """Changes fields of the first annotation in BADJA's file; None removes one."""

    def make(path: Path) -> None:
        content = json.loads(path.read_text())
        first = content["bear"]["annotations"][0]
        first |= changes
        content["bear"]["annotations"][0] = {name: value for name, value in first.items() if value is not None}
        path.write_text(json.dumps(content))

    return make
