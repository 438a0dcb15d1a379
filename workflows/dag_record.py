"""When is a step done? Fingerprints, the record of a finished step, and what stands in a run.

A fingerprint is a sha256 over a step's name, version, the configuration it reads and the
fingerprints of its inputs, so it is known before anything runs. The version is a number in the
source that is raised by hand when a change of the code changes what the step makes: a digest of the
code would train for hours again after a corrected comment (docs/adr/0012).
"""

from __future__ import annotations

import graphlib
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from geco_core.config.load import difference
from geco_core.errors import ConfigError, Fatal
from infra.stages import done_key, read_json
from infra.storage import Storage


class Node(Protocol):
    """What the graph reads of a step."""

    @property
    def name(self) -> str:
        """Unique in the graph."""
        ...

    @property
    def needs(self) -> Sequence[str]:
        """Names of the steps whose outputs it reads."""
        ...

    @property
    def reads(self) -> Mapping[str, Any]:
        """The configuration that decides what it makes, plain data."""
        ...

    @property
    def version(self) -> int:
        """Raised when a change of the code changes what it makes."""
        ...


@dataclass(frozen=True)
class StepRecord:
    """The content of `DONE.json`.

    Attributes:
        name: of the step.
        fingerprint: of the step that made it, 64 hex digits.
        version, reads: what the fingerprint is made from.
        inputs: needed step -> its fingerprint.
        outputs: what later steps are told, plain data; files by their key in the run folder.
        digests: key in the run folder -> sha256, of the files that make the step done.
        work: how much was done, for rates: `{"unit": "step", "count": 500}`.
        seconds: spent by the command that finished it.
        finished_at: ISO 8601.
        code_version: of the program, for the record alone.
    """

    name: str
    fingerprint: str
    version: int = 1
    reads: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    work: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    finished_at: str = ""
    code_version: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def read_record(storage: Storage, step: str) -> StepRecord | None:
    """The record of a finished step, whatever its fingerprint; None when there is none.

    Raises:
        Fatal: it is damaged.
    """
    content = read_json(storage, done_key(step))
    if content is None:
        return None
    known = {name: content[name] for name in StepRecord.__dataclass_fields__ if name in content}
    try:
        record = StepRecord(**known)
        sound = record.name == step and isinstance(record.digests, Mapping)
    except TypeError:
        sound, record = False, None
    if not sound or record is None:
        raise Fatal(
            f"{done_key(step)} is damaged",
            stage=step,
            remedy=f"remove {storage.uri}/{done_key(step)}: the step is run again",
        )
    return record


def fingerprints(steps: Iterable[Node]) -> dict[str, str]:
    """Fingerprint of every step.

    Raises:
        ConfigError: the steps form a circle, need one that is not there, or share a name.
    """
    by_name = _by_name(steps)
    found: dict[str, str] = {}
    for name in topological(by_name.values()):
        step = by_name[name]
        content = {
            "name": name,
            "version": step.version,
            "reads": step.reads,
            "inputs": {need: found[need] for need in step.needs},
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        found[name] = hashlib.sha256(text.encode()).hexdigest()
    return found


def topological(steps: Iterable[Node]) -> list[str]:
    """Names in an order in which every step comes after what it needs. Raises `ConfigError`."""
    by_name = _by_name(steps)
    for step in by_name.values():
        for need in step.needs:
            if need not in by_name:
                raise ConfigError(f"step {step.name!r} needs {need!r}, which is not in the graph")
    sorter = graphlib.TopologicalSorter({s.name: s.needs for s in by_name.values()})
    try:
        return list(sorter.static_order())
    except graphlib.CycleError as error:
        raise ConfigError(f"steps need each other in a circle: {error.args[1]}") from error


def ancestors(steps: Iterable[Node], wanted: Collection[str]) -> set[str]:
    """The wanted steps and everything they need.

    Raises:
        ConfigError: there is no such step.
    """
    by_name = _by_name(steps)
    found: set[str] = set()
    left = list(wanted)
    while left:
        name = left.pop()
        if name not in by_name:
            known = ", ".join(by_name)
            raise ConfigError(f"there is no step {name!r}", remedy=f"the steps are: {known}")
        if name not in found:
            found.add(name)
            left += by_name[name].needs
    return found


@dataclass(frozen=True)
class Standing:
    """What stands in a run folder of a step.

    Attributes:
        state: `done`; `changed`, it was made from something else; `damaged`, a file of it is
            missing; `open`, it was never finished.
        record: what `DONE.json` says, whatever it is of.
        why: what changed or is missing, in short lines.
    """

    state: Literal["done", "changed", "damaged", "open"]
    record: StepRecord | None = None
    why: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether the step need not run."""
        return self.state == "done"


def standing(storage: Storage, step: Node, fingerprint: str, inputs: Mapping[str, str]) -> Standing:
    """Whether a step is done.

    Files are looked up by name; whether they still have their digest is checked where they are
    loaded, because weights have gigabytes.

    Args:
        storage: of the run folder.
        step: to look up.
        fingerprint: of the step.
        inputs: fingerprints of what it needs.
    """
    record = read_record(storage, step.name)
    if record is None:
        return Standing("open")
    if record.fingerprint != fingerprint:
        return Standing("changed", record, tuple(_changes(record, step, inputs)))
    missing = tuple(f"{key} is missing" for key in record.digests if not storage.exists(key))
    return Standing("damaged", record, missing) if missing else Standing("done", record)


def survey(storage: Storage, steps: Sequence[Node]) -> dict[str, Standing]:
    """`standing` of every step. Raises `ConfigError` and `Fatal` as its parts do."""
    prints = fingerprints(steps)
    return {
        step.name: standing(
            storage, step, prints[step.name], {need: prints[need] for need in step.needs}
        )
        for step in steps
    }


def _changes(record: StepRecord, step: Node, inputs: Mapping[str, str]) -> Iterable[str]:
    plain = json.loads(json.dumps(dict(step.reads)))
    yield from difference(record.reads, plain)
    if record.version != step.version:
        yield f"version of the step: {record.version} -> {step.version}"
    for need in sorted({*record.inputs, *inputs}):
        if record.inputs.get(need) != inputs.get(need):
            yield f"input {need} is another one"


def _by_name(steps: Iterable[Node]) -> dict[str, Node]:
    by_name: dict[str, Node] = {}
    for step in steps:
        if step.name in by_name:
            raise ConfigError(f"two steps are called {step.name!r}")
        by_name[step.name] = step
    return by_name
