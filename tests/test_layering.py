"""Dependencies point one way, and library code keeps off the habits the house rules exclude.

workflows -> actors -> infra, geco_core. The rules are read from the syntax tree, so that imports
inside functions and under TYPE_CHECKING count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("geco_core", "infra", "actors", "workflows")
FORBIDDEN = {
    "geco_core": {
        "ray",
        "boto3",
        "botocore",
        "infra",
        "actors",
        "workflows",
        "benchmarks",
        "tests",
    },
    "infra": {"actors", "workflows", "benchmarks", "tests"},
    "actors": {"workflows", "benchmarks", "tests"},
    "workflows": {"benchmarks", "tests"},
}
INFRA_MAY_SEE = ("geco_core.types", "geco_core.errors", "geco_core.config")
GLOBAL_RANDOMNESS = {
    "torch.manual_seed",
    "torch.seed",
    "np.random.seed",
    "numpy.random.seed",
    "random.seed",
}

# Initial weights and the dropout of third-party modules come from torch's global generator only; a
# training stage owns its process and seeds it from its configuration.
MAY_SEED_TORCH = "geco_core/training/"


def imports(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """Absolute dotted names of everything a module imports, relative imports resolved."""
    parents = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def wrong_arrows(tree: ast.AST, module: str, *, is_package: bool = False) -> list[str]:
    """Imports of a module that point against the layering."""
    package = module.partition(".")[0]
    found = []
    for name in imports(tree, module, is_package=is_package):
        if name.partition(".")[0] in FORBIDDEN[package]:
            found.append(f"{module} imports {name}")
        if package == "infra" and name.startswith("geco_core") and not _infra_may_see(name):
            found.append(f"{module} imports {name}; infra sees only {', '.join(INFRA_MAY_SEE)}")
    return found


def _infra_may_see(name: str) -> bool:
    return any(name == allowed or name.startswith(f"{allowed}.") for allowed in INFRA_MAY_SEE)


def habits(tree: ast.AST) -> list[str]:
    """Excluded habits: prints, star imports, swallowed errors, path surgery, process-wide seeds,
    eval.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names):
            found.append((node.lineno, "star import"))
        elif isinstance(node, ast.ExceptHandler):
            found += [(node.lineno, fault) for fault in _swallows(node)]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"print", "eval", "exec", "sys.path.insert", "sys.path.append"}:
                found.append((node.lineno, f"{called}()"))
            elif called in GLOBAL_RANDOMNESS:
                found.append((node.lineno, f"{called}(): randomness is an argument"))
    return [f"line {line}: {fault}" for line, fault in found]


def _swallows(handler: ast.ExceptHandler) -> list[str]:
    if handler.type is None:
        return ["bare except"]
    broad = {"Exception", "BaseException"} & {
        n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)
    }
    silent = all(
        isinstance(s, (ast.Pass, ast.Continue))
        or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
        for s in handler.body
    )
    return ["an exception of any kind is swallowed"] if broad and silent else []


def modules() -> list[Path]:
    return sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_one_way(package: str) -> None:
    paths = [p for p in modules() if p.relative_to(ROOT).parts[0] == package]
    assert paths, f"no sources found in {package}"
    wrong = [
        fault
        for path in paths
        for fault in wrong_arrows(
            ast.parse(path.read_text()), dotted(path), is_package=path.name == "__init__.py"
        )
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", PACKAGES)
def test_library_code_keeps_the_habits(package: str) -> None:
    faults = [
        f"{path.relative_to(ROOT)} {fault}"
        for path in modules()
        if path.relative_to(ROOT).parts[0] == package
        for fault in habits(ast.parse(path.read_text()))
        if not ("torch.manual_seed()" in fault and MAY_SEED_TORCH in path.as_posix())
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("geco_core.mesh.clean", "import ray"),
        ("geco_core.mesh.clean", "def f():\n    from boto3.session import Session"),
        ("geco_core.types", "from infra import store"),
        ("infra.store", "from geco_core.mesh import clean"),
        ("infra.store", "from geco_core import typesetting"),
        ("infra.store", "import actors.pool"),
        ("actors.pool", "from workflows.cli import main"),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, source: str) -> None:
    assert wrong_arrows(ast.parse(source), module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("infra.store", "from geco_core.config.load import load\nfrom geco_core import types"),
        (
            "actors.pool",
            "import ray\nfrom infra.store import Store\nfrom geco_core.mesh import clean",
        ),
        (
            "geco_core.mesh.clean",
            "from . import frames\nfrom ..types import Mesh\nimport raytracer",
        ),
    ],
)
def test_a_right_arrow_passes(module: str, source: str) -> None:
    assert not wrong_arrows(ast.parse(source), module)


@pytest.mark.parametrize(
    "source",
    [
        "print(1)",
        "from os import *",
        "try:\n    f()\nexcept:\n    raise",
        "try:\n    f()\nexcept Exception:\n    pass",
        "try:\n    f()\nexcept (ValueError, Exception):\n    ...",
        "import sys\nsys.path.insert(0, 'x')",
        "torch.manual_seed(0)",
    ],
)
def test_an_excluded_habit_is_seen(source: str) -> None:
    assert habits(ast.parse(source))


def test_narrow_handlers_and_generators_pass() -> None:
    source = "try:\n    f()\nexcept KeyError:\n    pass\ng = torch.Generator().manual_seed(0)"
    assert not habits(ast.parse(source))
