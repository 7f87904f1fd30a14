"""The house rules that a machine can hold: imports go one way, and importing does nothing."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("functional", "models", "dataloaders", "utils")
ALLOWED = {  # what of ours a room may import, beside itself
    "functional": set(),
    "models": {"functional", "utils.errors"},
    "dataloaders": {"utils.errors"},
    "utils": set(),
}
MODULES = [path for room in ROOMS for path in sorted((ROOT / room).glob("*.py"))]
SCRIPTS = [*ROOT.glob("*.py"), *(ROOT / "scripts").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]


def imported(path: Path) -> set[str]:
    """The names of the modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports_go_one_way(path):
    room = path.parent.name
    ours = {name for name in imported(path) if name.split(".")[0] in (*ROOMS, "scripts", "tests", "benchmarks")}
    foreign = {name for name in ours if name.split(".")[0] != room and name not in ALLOWED[room]}
    foreign -= {name for name in foreign if name.split(".")[0] in ALLOWED[room]}
    assert not foreign
    if room == "utils" and path.stem == "errors":
        assert not ours


@pytest.mark.parametrize("path", MODULES + SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_only_distributed_touches_torch_distributed(path):
    if path.relative_to(ROOT).as_posix() != "utils/distributed.py":
        assert not {name for name in imported(path) if name.startswith("torch.distributed")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_forbidden_words(path):
    text = path.read_text()
    for word in (".cuda()", "strict=False", "print(", "except:"):
        assert word not in text, word


def test_importing_does_nothing():
    """No parsing, printing or reading: every module and script imports silently, whatever the command line says."""
    files = [path.relative_to(ROOT) for path in MODULES + SCRIPTS]
    names = [".".join(path.with_suffix("").parts) for path in files if path.name != "__init__.py"]
    if importlib.util.find_spec("triton") is None:  # where PyTorch has no CUDA
        names.remove("functional.triton_kernels")
    code = f"import importlib, sys; sys.argv = ['x', '--nonsense']; [importlib.import_module(n) for n in {names}]"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_functions_and_files_stay_short():
    for path in MODULES + SCRIPTS:
        text = path.read_text()
        assert text.count("\n") <= 250, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 50, f"{path}: {node.name}"
