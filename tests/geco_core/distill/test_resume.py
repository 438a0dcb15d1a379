"""Checkpoints: which one is continued, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geco_core.distill.resume import Checkpoints
from geco_core.distill.world import World
from geco_core.errors import Fatal, Retryable
from tests.geco_core.distill.loops import Drift, FolderStore, checkpoints

CPU = torch.device("cpu")


def saved(folder: Path, *steps: int, keep: int = 9) -> None:
    trainer = Drift()
    for step in steps:
        trainer.value = torch.full((3,), float(step))
        checkpoints(folder, keep=keep).save(step, trainer)


def test_the_newest_is_continued(tmp_path: Path) -> None:
    saved(tmp_path, 3, 6)
    trainer = Drift()
    assert checkpoints(tmp_path).resume(trainer) == (6, [])
    assert trainer.value.tolist() == [6.0, 6.0, 6.0]


def test_without_checkpoints_the_generator_is_seeded_per_process(tmp_path: Path) -> None:
    drawn = []
    for rank in (0, 0, 1):
        one = checkpoints(tmp_path)
        one._world = World(rank, 1)
        assert one.resume(Drift()) == (0, [])
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("damage", ["digest", "torn", "foreign"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    saved(tmp_path, 3, 6)
    store = FolderStore(tmp_path)
    newest = tmp_path / "6.pt"
    if damage == "digest":
        store.damaged.add(6)
    elif damage == "torn":
        newest.write_bytes(newest.read_bytes()[:200])
    else:
        torch.save({"weights": torch.zeros(2)}, newest)
    trainer = Drift()
    step, problems = Checkpoints(store, "f", 7, World(), CPU).resume(trainer)
    assert step == 3
    assert trainer.value.tolist() == [3.0, 3.0, 3.0]
    assert len(problems) == 1
    assert problems[0].startswith("step 6: ")
    assert store.steps() == [3]  # it can not push a good one out later


def test_only_damaged_checkpoints_stop_instead_of_beginning_anew(tmp_path: Path) -> None:
    saved(tmp_path, 3, 6)
    store = FolderStore(tmp_path)
    store.damaged = {3, 6}
    with pytest.raises(Fatal, match="no checkpoint of 2 can be read"):
        Checkpoints(store, "f", 7, World(), CPU).resume(Drift())


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    saved(tmp_path, 3)

    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.write_text, (tmp_path / "ran", "yes"))

    torch.save({"format": 1, "step": 6, "trainer": Evil()}, tmp_path / "6.pt")
    step, problems = checkpoints(tmp_path).resume(Drift())
    assert step == 3
    assert "would run code" in problems[0]
    assert not (tmp_path / "ran").exists()


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, 3)
    with pytest.raises(Fatal, match="another configuration"):
        checkpoints(tmp_path, fingerprint="other").resume(Drift())


def test_the_number_of_processes_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two saved their generators; of three that resume, the third gets a fresh one."""
    states = [torch.Generator().manual_seed(k).get_state() for k in (1, 2)]
    monkeypatch.setattr(World, "gather", lambda self, state: states)
    checkpoints(tmp_path, world=World(0, 2)).save(3, Drift())
    monkeypatch.setattr(World, "share", lambda self, number: 3)
    drawn = []
    for rank in range(3):
        checkpoints(tmp_path, world=World(rank, 3)).resume(Drift())
        drawn.append(torch.rand(1).item())
    expected = [torch.rand(1, generator=torch.Generator().manual_seed(k)).item() for k in (1, 2)]
    assert drawn[:2] == expected
    assert drawn[2] not in expected


def test_a_checkpoint_that_only_this_process_can_not_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 3)
    store = FolderStore(tmp_path)
    store.damaged = {3}
    monkeypatch.setattr(World, "share", lambda self, number: 3)
    with pytest.raises(Retryable, match="reads elsewhere"):
        Checkpoints(store, "f", 7, World(1, 2), CPU).resume(Drift())
