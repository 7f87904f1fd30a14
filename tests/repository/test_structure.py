"""The structure of the code: imports go one way, importing does nothing, functions and files are short."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.repository import CODE, PACKAGES, ROOT, TESTS, imports

LIBRARY = {"functional", "models", "dataloaders", "utils", "training", "evaluation"}
SCRIPT = ""  # a script at the top
ALLOWED = {  # what of ours the files of a package may import, beside their own package
    "functional": set(),
    "models": {"functional"},
    "dataloaders": {"utils.errors", "utils.palette"},
    "utils": set(),
    "training": {"functional", "models", "dataloaders", "utils"},
    "evaluation": {"functional", "models", "dataloaders", "utils"},
    SCRIPT: LIBRARY,
    "scripts": LIBRARY,
    "benchmarks": {*LIBRARY, "scripts"},
}
SUBPACKAGES = {"models/propagation"}
NOT_OF_A_PACKAGE = {"repository", "robustness", "support"}  # folders of tests/
FORBIDDEN = (".cuda()", "strict=False", "print(", "except:")
LONGEST_FUNCTION, LONGEST_FILE = 45, 250
USUAL_FUNCTION = 20  # 9 of 10 functions are not longer


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package_of(path: Path) -> str:
    """The package at the top that a file lies in; SCRIPT if in none."""
    *folders, _ = path.relative_to(ROOT).parts
    return folders[0] if folders else SCRIPT


def imports_of_ours(path: Path) -> set[str]:
    ours = {*PACKAGES, "tests", *(script.stem for script in ROOT.glob("*.py"))}
    return {name for name in imports(path) if name.split(".")[0] in ours}


def lies_in(name: str, packages: set[str]) -> bool:
    """Whether a dotted name is one of these packages or modules, or in one."""
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def test_every_package_is_known():
    """A new one needs a place in ALLOWED."""
    assert set(ALLOWED) == {SCRIPT, *PACKAGES}
    at_the_top = {path.relative_to(ROOT).parts[0] for pattern in ("*/*.py", "*/*/*.py") for path in ROOT.glob(pattern)}
    assert {name for name in at_the_top if not name.startswith(".")} == {*PACKAGES, "tests"}
    assert {name_of(path.parent) for path in CODE} == {".", *PACKAGES, *SUBPACKAGES}
    assert all((ROOT / package / "__init__.py").exists() for package in (*PACKAGES, *SUBPACKAGES))


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_imports_go_one_way(path):
    package = package_of(path)
    allowed = ALLOWED[package] | ({package} if package else set())
    assert not {name for name in imports_of_ours(path) if not lies_in(name, allowed)}


def test_errors_import_nothing_of_ours():
    assert not imports_of_ours(ROOT / "utils" / "errors.py")


def test_only_one_module_imports_torch_distributed():
    found = {name_of(path) for path in CODE if any(lies_in(name, {"torch.distributed"}) for name in imports(path))}
    assert found == {"utils/distributed.py"}


@pytest.mark.parametrize("path", [path for path in CODE if package_of(path) in LIBRARY], ids=name_of)
def test_forbidden_words(path):
    """Of the library, only evaluation/ prints: its scores."""
    allowed = ["print("] if package_of(path) == "evaluation" else []
    assert not [word for word in FORBIDDEN if word in path.read_text() and word not in allowed]


def test_importing_does_nothing():
    """No parsing, printing or reading: every module and script imports silently, whatever the command line says."""
    files = [path.relative_to(ROOT) for path in CODE]
    names = [".".join(path.with_suffix("").parts) for path in files if path.name != "__init__.py"]
    if importlib.util.find_spec("triton") is None:  # where PyTorch has no CUDA
        names.remove("functional.triton_kernels")
    code = f"import importlib, sys; sys.argv = ['x', '--nonsense']; [importlib.import_module(n) for n in {names}]"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_functions_are_short():
    """Methods and nested functions too, each with all of its lines but the decorators."""
    lengths = {}
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths[f"{name_of(path)}:{node.lineno} {node.name}"] = node.end_lineno - node.lineno + 1
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION}
    assert np.percentile(list(lengths.values()), 90) <= USUAL_FUNCTION


def test_files_are_short():
    lengths = {name_of(path): path.read_text().count("\n") for path in CODE}
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FILE}


def test_tests_share_code_by_support_alone():
    """No test module imports another one, or conftest.py."""
    shared = {path: {name for name in imports(path) if lies_in(name, {"tests"})} for path in TESTS}
    foreign = {
        name_of(path): {name for name in names if not lies_in(name, {"tests.support"})}
        for path, names in shared.items()
    }
    assert not {path: names for path, names in foreign.items() if names}


def test_tests_lie_in_folders_of_the_packages():
    folders = {path.parent.relative_to(ROOT / "tests") for path in TESTS} - {Path()}
    assert {folder.as_posix() for folder in folders if folder.parts[0] not in NOT_OF_A_PACKAGE} <= {
        *PACKAGES,
        *SUBPACKAGES,
    }
