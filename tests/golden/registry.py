"""Golden cases, the adapters that replay them on our code, and the comparison between the two.

A case is a pair `NAME.safetensors` + `NAME.json`: tensors under `sd/<published name>` (weights),
`in/<input>` and `out/<output>`, and a JSON that holds every configuration value the adapter needs.
`keys_*.json` stand alone: they are inventories (name -> shape, bare or under `shapes`) of a
published checkpoint at full size. An adapter is a class registered under a name prefix; it builds
our model from the JSON, loads the stored weights and returns our outputs. Nothing about a case is
written down in code, so any folder of such files, with other seeds and sizes, runs through the same
adapters.
"""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)
_ADAPTERS: dict[str, type[Adapter]] = {}
_BROKEN: dict[str, str] = {}

A = TypeVar("A", bound="type[Adapter]")


class GoldenError(Exception):
    """A case that can not be run: files that do not fit together, a broken adapter."""


@dataclass(frozen=True)
class Case:
    """One golden case.

    Attributes:
        name: file name without suffix.
        meta: the parsed JSON: configuration, tolerances, notes.
        tensors: everything stored, halves cast to float32 (they hold exactly representable values).
        folder: where the files lie; `weights.from` or `state_dict_from` name siblings there.
    """

    name: str
    meta: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    folder: Path = Path()

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """Stored inputs, without the `in/` prefix."""
        return self.view("in/")

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        """Outputs of the original, without the `out/` prefix."""
        return self.view("out/")

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """Stored state dict entries whose published name starts with `prefix`, which is cut off.

        The state dict lies in this file or, when the JSON has `weights.from` or `state_dict_from`,
        in the files named there.
        """
        return _strip(self._state, f"sd/{prefix}")

    def view(self, prefix: str) -> dict[str, Tensor]:
        """All tensors under a key prefix, which is cut off."""
        return _strip(self.tensors, prefix)

    @cached_property
    def sources(self) -> tuple[Case, ...]:
        """The cases whose files hold this one's weights; itself when they are its own."""
        found = [load_case(self.folder / name) for name in self._source_names]
        return tuple(found) or (self,)

    @property
    def _source_names(self) -> list[str]:
        weights = self.meta.get("weights")
        named = weights.get("from") if isinstance(weights, Mapping) else None
        named = self.meta.get("state_dict_from") if named is None else named
        listed = named if isinstance(named, list) else [named]
        stems = [Path(str(n)).name.removesuffix(".safetensors") for n in listed if n is not None]
        return [f"{stem}.safetensors" for stem in stems]

    @cached_property
    def _state(self) -> Mapping[str, Tensor]:
        if not self._source_names:
            return self.tensors
        found: dict[str, Tensor] = {}
        for name in self._source_names:
            found.update(_load_tensors(self.folder / name))
        return found


@dataclass(frozen=True)
class Row:
    """The verdict on one output: largest absolute error, tolerance, a note on failure."""

    case: str
    output: str
    error: float
    tolerance: str
    ok: bool
    note: str = ""


class Adapter:
    """Replays one family of cases. Subclass, implement `run`, register with
    `@adapter("prefix")`.
    """

    def run(self, case: Case) -> dict[str, Tensor]:
        """Our outputs, keyed like the stored ones without `out/`; more keys are ignored."""
        raise NotImplementedError

    def tolerance(self, case: Case, output: str) -> tuple[float, float]:
        """`(rtol, atol)` for one output.

        By default exact for integers and booleans, else the JSON's `rtol` and `atol`.
        """
        stored = case.outputs.get(output)
        if stored is not None and not stored.is_floating_point():
            return 0.0, 0.0
        return float(case.meta.get("rtol", 0.0)), float(case.meta.get("atol", 0.0))

    def compare(
        self, case: Case, output: str, ours: Tensor, theirs: Tensor, rtol: float, atol: float
    ) -> tuple[float, bool]:
        """`(largest absolute error, ok)`.

        By default `|ours - theirs| <= atol + rtol |theirs|` everywhere.
        """
        return compare_close(ours, theirs, rtol, atol)

    def rows(self, case: Case) -> list[Row]:
        """One verdict per stored output. An output that `run` did not return is a failure."""
        if not case.outputs:
            raise GoldenError("the file holds no outputs")
        computed = self.run(case)
        return [self._verdict(case, name, computed.get(name)) for name in case.outputs]

    def _verdict(self, case: Case, output: str, ours: Tensor | None) -> Row:
        rtol, atol = self.tolerance(case, output)
        stated = f"{rtol:.0e}+{atol:.0e}"
        if ours is None:
            return Row(
                case.name,
                output,
                float("inf"),
                stated,
                ok=False,
                note="not computed by the adapter",
            )
        theirs = case.outputs[output]
        error, ok = self.compare(case, output, ours.detach().cpu(), theirs, rtol, atol)
        note = (
            ""
            if ok or ours.shape == theirs.shape
            else f"shape {list(ours.shape)}, stored {list(theirs.shape)}"
        )
        return Row(case.name, output, error, stated, ok=ok, note=note)


class InventoryAdapter(Adapter):
    """Compares the names and shapes of a published checkpoint with those of our model."""

    def shapes(self, case: Case) -> dict[str, tuple[int, ...]]:
        """Name -> shape of our model, built (on the meta device) from `case.meta["config"]`."""
        raise NotImplementedError

    def rows(self, case: Case) -> list[Row]:
        """One row: the error is the number of missing, surplus and differently shaped entries."""
        stored = case.meta.get("shapes", case.meta)
        theirs = {name: tuple(shape) for name, shape in stored.items()}
        ours = self.shapes(case)
        wrong = [f"missing {n}" for n in theirs if n not in ours]
        wrong += [f"surplus {n}" for n in ours if n not in theirs]
        wrong += [
            f"{n} is {ours[n]}, not {s}" for n, s in theirs.items() if n in ours and ours[n] != s
        ]
        note = "; ".join(wrong[:3])
        return [
            Row(
                case.name,
                f"shapes[{len(theirs)}]",
                float(len(wrong)),
                "exact",
                ok=not wrong,
                note=note,
            )
        ]


def adapter(*prefixes: str) -> Callable[[A], A]:
    """Class decorator: register an adapter for cases whose name starts with one of `prefixes`."""

    def register(cls: A) -> A:
        for prefix in prefixes:
            if prefix in _ADAPTERS and _ADAPTERS[prefix].__qualname__ != cls.__qualname__:
                raise GoldenError(f"two adapters claim the prefix {prefix!r}")
            _ADAPTERS[prefix] = cls
        return cls

    return register


def adapter_for(name: str) -> Adapter | None:
    """The adapter with the longest registered prefix of `name`, or None.

    Raises:
        GoldenError: the module that holds the best match failed to import.
    """
    prefix = max((p for p in [*_ADAPTERS, *_BROKEN] if name.startswith(p)), key=len, default=None)
    if prefix is None:
        return None
    if prefix in _BROKEN:
        raise GoldenError(_BROKEN[prefix])
    return _ADAPTERS[prefix]()


def load_adapters(folder: Path, package: str) -> None:
    """Import every module of `folder`, in order of name.

    A module that fails to import does not stop the others: the prefixes it would have registered
        (read from its
    source) are remembered as broken, so that their cases fail with the import's message.
    """
    for path in sorted(folder.glob("[!_]*.py")):
        try:
            importlib.import_module(f"{package}.{path.stem}")
        except Exception as error:
            for prefix in _declared_prefixes(path):
                _BROKEN[prefix] = f"{path.name} does not import: {type(error).__name__}: {error}"


def load_case(path: Path) -> Case:
    """Read one case from its `.safetensors` or `.json` path (either names the pair)."""
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        raise GoldenError(f"{sidecar.name} is missing")
    meta = json.loads(sidecar.read_text(encoding="utf-8"))
    stored = path.with_suffix(".safetensors")
    return Case(path.stem, meta, _load_tensors(stored) if stored.is_file() else {}, path.parent)


def case_paths(sources: Iterable[Path]) -> list[Path]:
    """The cases named by files and folders, each once; sorted within a folder."""
    found: dict[Path, None] = {}
    for source in sources:
        if not source.exists():
            raise GoldenError(f"{source} does not exist")
        files = sorted(source.iterdir()) if source.is_dir() else [source]
        for file in files:
            if file.suffix in (".json", ".safetensors"):
                found[file.with_suffix("")] = None
    return [base.parent / f"{base.name}.json" for base in found]


def evaluate(path: Path) -> list[Row] | None:
    """Verdicts on one case; None when no adapter claims it. Any error becomes one failed row."""
    try:
        replay = adapter_for(path.stem)
        return None if replay is None else replay.rows(load_case(path))
    except Exception as error:
        note = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return [Row(path.stem, "*", float("inf"), "-", ok=False, note=note[:400])]


def compare_close(ours: Tensor, theirs: Tensor, rtol: float, atol: float) -> tuple[float, bool]:
    """`(largest absolute error, all within atol + rtol |theirs|)`.

    NaN equals NaN, shapes must agree.
    """
    if ours.shape != theirs.shape:
        return float("inf"), False
    if theirs.numel() == 0:
        return 0.0, True
    a, b = ours.to(torch.float64), theirs.to(torch.float64)
    same = (a == b) | (a.isnan() & b.isnan())
    error = torch.where(same, torch.zeros_like(a), (a - b).abs()).nan_to_num(nan=float("inf"))
    limit = torch.where(b.isfinite(), atol + rtol * b.abs(), torch.zeros_like(b))
    return float(error.max()), bool((error <= limit).all())


def compare_point_sets(ours: Tensor, theirs: Tensor, atol: float) -> tuple[float, bool]:
    """Two point lists [N, D] as sets.

    The larger of both directed nearest-neighbour distances is held to `atol`.
    """
    if ours.shape != theirs.shape:
        return float("inf"), False
    if theirs.numel() == 0:
        return 0.0, True
    distance = torch.cdist(ours.to(torch.float64), theirs.to(torch.float64))
    error = float(torch.maximum(distance.amin(0).amax(), distance.amin(1).amax()))
    return error, error <= atol


def _strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _load_tensors(path: Path) -> dict[str, Tensor]:
    return {k: v.float() if v.dtype in _HALF else v for k, v in load_file(path).items()}


def _declared_prefixes(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError:
        return [
            path.stem
        ]  # a file that does not parse: by custom a module is named after its prefix
    calls = [d for n in ast.walk(tree) if isinstance(n, ast.ClassDef) for d in n.decorator_list]
    return [
        arg.value
        for call in calls
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "adapter"
        for arg in call.args
        if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
    ]
