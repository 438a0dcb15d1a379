"""Fingerprints and what stands in a run: the same thing is known again, anything else is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from geco_core.errors import ConfigError, Fatal
from infra.stages import done_key, put_done, put_stage_file
from infra.storage import LocalStorage
from workflows.dag import Step, StepContext, StepOutputs
from workflows.dag_record import (
    StepRecord,
    ancestors,
    fingerprints,
    read_record,
    standing,
    survey,
    topological,
)


def nothing(_: StepContext) -> StepOutputs:
    return StepOutputs()


def step(name: str, *needs: str, **reads: object) -> Step:
    return Step(name, nothing, needs, reads)


def chain(**last: object) -> list[Step]:
    return [step("a", x=1), step("b", "a", y=2), step("c", "b", **last)]


def test_a_fingerprint_is_made_of_name_version_configuration_and_inputs() -> None:
    base = fingerprints(chain())
    assert base == fingerprints(list(reversed(chain())))
    assert len(set(base.values())) == 3
    assert all(len(text) == 64 for text in base.values())
    changed = fingerprints([step("a", x=2), *chain()[1:]])
    assert all(changed[name] != base[name] for name in "abc"), "a change reaches every descendant"
    last = fingerprints(chain(z=1))
    assert [last[n] == base[n] for n in "abc"] == [True, True, False]
    version = fingerprints([chain()[0], replace(chain()[1], version=2), chain()[2]])
    assert [version[n] == base[n] for n in "abc"] == [True, False, False]


def test_bad_graphs_are_refused() -> None:
    with pytest.raises(ConfigError, match="circle"):
        topological([step("a", "b"), step("b", "a")])
    with pytest.raises(ConfigError, match="needs 'x'"):
        fingerprints([step("a", "x")])
    with pytest.raises(ConfigError, match="two steps are called 'a'"):
        fingerprints([step("a"), step("a")])


def test_ancestors_are_what_a_step_needs() -> None:
    steps = [*chain(), step("d")]
    assert ancestors(steps, ["b"]) == {"a", "b"}
    with pytest.raises(ConfigError, match="no step 'zz'") as caught:
        ancestors(steps, ["zz"])
    assert "a, b, c, d" in caught.value.remedy


def record_of(steps: list[Step], name: str, **changes: object) -> StepRecord:
    prints = fingerprints(steps)
    found = next(s for s in steps if s.name == name)
    inputs = {need: prints[need] for need in found.needs}
    record = StepRecord(name, prints[name], found.version, found.reads, inputs)
    return replace(record, **changes)


def test_a_step_is_done_when_its_record_has_its_fingerprint_and_its_files_are_there(
    tmp_path: Path,
) -> None:
    storage, steps = LocalStorage(tmp_path), chain()
    assert survey(storage, steps)["b"].state == "open"
    record = record_of(steps, "b", digests={"stages/b/f/x.bin": "0" * 64})
    put_done(storage, "b", record.to_json())
    assert survey(storage, steps)["b"].state == "damaged"
    assert survey(storage, steps)["b"].why == ("stages/b/f/x.bin is missing",)
    put_stage_file(storage, "stages/b/f/x.bin", b"x")
    assert survey(storage, steps)["b"].done
    assert read_record(storage, "b") == record


def test_what_changed_is_named(tmp_path: Path) -> None:
    storage, steps = LocalStorage(tmp_path), chain(rate=1.0)
    for name in "abc":
        put_done(storage, name, record_of(steps, name).to_json())
    now = [step("a", x=3), replace(steps[1], version=2), step("c", "b", rate=2.0)]
    found = survey(storage, now)
    assert found["a"].why == ("x: 1 -> 3",)
    assert found["b"].why == ("version of the step: 1 -> 2", "input a is another one")
    assert found["c"].why == ("rate: 1.0 -> 2.0", "input b is another one")
    assert not any(entry.done for entry in found.values())


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "other"}', "{}"])
def test_a_damaged_record_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    storage = LocalStorage(tmp_path)
    put_stage_file(storage, done_key("a"), text.encode())
    with pytest.raises(Fatal) as caught:
        standing(storage, step("a"), "f" * 64, {})
    assert "stages/a/DONE.json" in caught.value.remedy


def test_records_of_later_versions_with_more_fields_are_read(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    content = StepRecord("a", "f" * 64).to_json() | {"news": 1}
    put_stage_file(storage, done_key("a"), json.dumps(content).encode())
    assert read_record(storage, "a") == StepRecord("a", "f" * 64)
