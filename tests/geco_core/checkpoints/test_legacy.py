"""One door for pickles: nothing else in the four packages unpickles, and it runs no code."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest
import torch

from geco_core.checkpoints.legacy import load_tensors, load_trusted
from geco_core.checkpoints.refusals import CheckpointError, Refusal

ROOT = Path(__file__).parents[3]
PACKAGES = ("geco_core", "infra", "actors", "workflows")
DOOR = "geco_core/checkpoints/legacy.py"
# Messages between a process and the child it started over a socket pair; never bytes from a file,
# a store or the network.
OUR_OWN_CHILDREN = "actors/wire.py"
# Called by any of its names, an unpickler runs what the file says.
UNPICKLERS = {
    "torch": {"load"},
    "pickle": {"load", "loads", "Unpickler"},
    "_pickle": {"load", "loads", "Unpickler"},
    "cloudpickle": {"load", "loads"},
    "dill": {"load", "loads"},
    "joblib": {"load"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
    "yaml": {"load", "load_all", "unsafe_load", "full_load"},
    "torch.jit": {"load"},
    "pandas": {"read_pickle"},
}


def unpickling(tree: ast.AST) -> list[str]:
    """Uses of unpicklers in a module, whatever names they were imported by."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    found = []
    for node in ast.walk(tree):
        full = ""
        if isinstance(node, (ast.Attribute, ast.Name)):
            first, _, rest = ast.unparse(node).partition(".")
            full = ".".join(filter(None, (names.get(first, ""), rest)))
        module, _, attribute = full.rpartition(".")
        if attribute in UNPICKLERS.get(module, ()):
            found.append(f"line {getattr(node, 'lineno', 0)}: {full}")
        if isinstance(node, ast.Call):
            found += [
                f"line {node.lineno}: allow_pickle"
                for k in node.keywords
                if k.arg == "allow_pickle" and ast.unparse(k.value) != "False"
            ]
    return found


def test_nothing_else_unpickles() -> None:
    found = {
        str(path.relative_to(ROOT)): uses
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if (uses := unpickling(ast.parse(path.read_text())))
    }
    assert DOOR in found
    assert set(found) <= {DOOR, OUR_OWN_CHILDREN}, found
    assert len(found[DOOR]) == 1, "one call, whose restriction the caller can not forget"


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(p)",
        "from torch import load\nload(p)",
        "import torch as t\nt.load(p, weights_only=True)",
        "import torch\nf = torch.load",
        "import pickle\npickle.loads(b)",
        "import pickle\nclass U(pickle.Unpickler): ...",
        "from pickle import loads as undo\nundo(b)",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "import numpy as np\nnp.load(p, allow_pickle=flag)",
        "import yaml\nyaml.load(t, Loader=yaml.Loader)",
        "import torch.jit\ntorch.jit.load(p)",
    ],
)
def test_an_unpickler_is_seen(source: str) -> None:
    assert unpickling(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.load(p)",
        "import yaml\nyaml.safe_load(t)",
        "import json\njson.loads(t)",
        "from geco_core.config.load import load\nload(p)",
        "import pickle\nexcept_ = pickle.UnpicklingError",
    ],
)
def test_harmless_loads_pass(source: str) -> None:
    assert not unpickling(ast.parse(source))


class Touch:
    """Unpickles by making a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("archive", [True, False])
def test_code_of_a_file_does_not_run(tmp_path: Path, archive: bool) -> None:
    path, marker = tmp_path / "evil.pt", tmp_path / "ran"
    state = {"weight": torch.ones(1), "x": Touch(marker)}
    torch.save(state, path, _use_new_zipfile_serialization=archive)
    with pytest.raises(CheckpointError) as caught:
        load_tensors(path)
    assert caught.value.refusal is Refusal.PICKLE_REFUSED
    assert not marker.exists()
    load_trusted(path)
    assert marker.exists(), "the file was harmful, or this test proves nothing"


def test_both_formats_load(tmp_path: Path) -> None:
    for archive in (True, False):
        path = tmp_path / f"{archive}.pt"
        torch.save({"a": torch.arange(3)}, path, _use_new_zipfile_serialization=archive)
        assert load_tensors(path)["a"].tolist() == [0, 1, 2]
    assert load_tensors(tmp_path / "True.pt", mmap=True)["a"].tolist() == [0, 1, 2]


def test_out_of_memory_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": torch.ones(1)}, path)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(MemoryError):
        load_tensors(path)


def test_the_refusal_crosses_processes(tmp_path: Path) -> None:
    error = CheckpointError("m", refusal=Refusal.BOMB, remedy="r")
    again = pickle.loads(pickle.dumps(error))
    assert (again.refusal, again.message, again.remedy) == (Refusal.BOMB, "m", "r")
