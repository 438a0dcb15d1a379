"""Every bad checkpoint ends in its refusal, with a message, a remedy and nothing left behind."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from safetensors.torch import load_file, save

from geco_core.checkpoints import child, convert, launch
from geco_core.checkpoints.refusals import CheckpointError, Refusal
from tests.corpus.checkpoints import CASES, STATE, Checkpoint, torch_bytes


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, put in, repeated or lost at the end."""
    changed = bytearray(data)
    start, length = rng.randrange(len(data)), rng.randrange(1, 20)
    other = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            changed[start] ^= 1 << rng.randrange(8)
        case 1:
            del changed[start : start + length]
        case 2:
            changed[start:start] = rng.randbytes(length)
        case 3:
            changed[start : start + length] = changed[other : other + length]
        case _:
            del changed[start:]
    return bytes(changed)


def check(case: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    source = case.make(tmp_path / "in")
    with pytest.raises(CheckpointError) as caught:
        convert.convert(
            source, tmp_path / "out" / "x.safetensors", convert.ConvertOptions(**case.options)
        )
    assert caught.value.refusal is case.refusal, caught.value
    assert case.text in caught.value.message
    assert caught.value.remedy
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "case", [c for c in CASES if not c.options.get("trusted")], ids=lambda c: c.name
)
def test_it_is_refused(case: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(child, "_limit", lambda _: None)

    def start(scratch: Path, _: float) -> int:
        started.append(scratch)
        return child.main(scratch)  # none of the files' code runs, so no process is needed

    monkeypatch.setattr(launch, "start", start)
    check(case, tmp_path)
    assert bool(started) == case.reads, "bytes are checked before anything is read"


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.options.get("trusted")], ids=lambda c: c.name
)
def test_code_of_the_file_harms_the_child_alone(case: Checkpoint, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [c for c in CASES if c.reads and not c.options.get("trusted")], ids=lambda c: c.name
)
def test_it_is_refused_by_a_real_child(case: Checkpoint, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_any_damage_ends_in_a_refusal_or_in_a_file_of_tensors(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_limit", lambda _: None)
    monkeypatch.setattr(launch, "start", lambda scratch, _: child.main(scratch))
    whole = (torch_bytes(STATE), torch_bytes(STATE, archive=False), save(STATE))[seed]
    source, out = tmp_path / "x.ckpt", tmp_path / "x.safetensors"
    rng = random.Random(seed)
    outcomes = Counter[str]()
    for _ in range(150):
        source.write_bytes(damaged(whole, rng))
        try:
            convert.convert(source, out, convert.ConvertOptions())
        except CheckpointError as error:
            outcomes[error.refusal] += 1
        else:
            load_file(out)
            outcomes["converted"] += 1
    assert outcomes.total() == 150
    assert len(outcomes) > 2, outcomes


def test_the_corpus_is_large_and_covers_the_refusals() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 60
    elsewhere = {Refusal.CHANGED, Refusal.NOT_WRITTEN, Refusal.BAD_INDEX}
    assert {case.refusal for case in CASES} == set(Refusal) - elsewhere


def test_the_cases_leave_no_process_behind(tmp_path_factory: pytest.TempPathFactory) -> None:
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    ours = str(tmp_path_factory.getbasetemp())
    left = [x for x in running.stdout.splitlines() if child.__name__ in x and ours in x]
    assert left == []
