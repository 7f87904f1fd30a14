"""Where the files of the repository lie, and what they import."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("functional", "models", "dataloaders", "utils", "training", "evaluation", "scripts", "benchmarks")
CODE = sorted([*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))])
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The dotted names that a Python file imports, wherever in it; `from a import b` is a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            folders = path.relative_to(ROOT).parent.parts
            parents = folders[: len(folders) + 1 - node.level] if node.level else ()
            module = ".".join([*parents, *filter(None, [node.module])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names
