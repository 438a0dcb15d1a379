"""The loop: what happens when, a wish to stop loses nothing, and a resumed run ends the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from geco_core.distill.loop import LoopSettings, run_loop
from geco_core.distill.world import World
from tests.geco_core.distill.loops import SETTINGS, Drift, Heard, checkpoints


def never() -> bool:
    return False


def run(folder: Path, **changes: object) -> tuple[Drift, Heard, object]:
    trainer, heard = Drift(), Heard()
    stop = changes.pop("stop", never)
    result = run_loop(
        trainer, SETTINGS, checkpoints(folder), heard, stop,
        sheet=lambda: np.zeros((2, 2, 3), np.uint8), **changes,
    )  # fmt: skip
    return trainer, heard, result


def test_everything_happens_at_its_step(tmp_path: Path) -> None:
    trainer, heard, result = run(tmp_path)
    assert trainer.made == list(range(10))
    assert heard.steps("train") == [2, 4, 6, 8, 10]
    assert heard.steps("checkpoint") == [3, 6, 9, 10]
    assert heard.steps("sheet") == heard.steps("samples") == [4, 8, 10]
    assert heard.steps("started") == [0]
    assert heard.steps("finished") == [10]
    assert (result.step, result.first, result.complete) == (10, 0, True)
    assert heard.flushed == 6  # at the start, with every report, at the end


def test_a_wish_to_stop_is_heard_at_the_next_step_and_saved(tmp_path: Path) -> None:
    straight, _, _ = run(tmp_path / "straight")
    asked = iter([False] * 4 + [True])
    trainer, heard, result = run(tmp_path / "halves", stop=lambda: next(asked))
    assert trainer.made == [0, 1, 2, 3, 4]
    assert (result.step, result.complete) == (5, False)
    assert heard.steps("checkpoint")[-1] == 5
    assert heard.steps("stopped") == [5]
    second, heard, result = run(tmp_path / "halves")
    assert second.made == [5, 6, 7, 8, 9]
    assert (result.step, result.first, result.complete) == (10, 5, True)
    # The global generator went on where it stood, so what it drew is the same too.
    assert torch.equal(second.value, straight.value)


def test_a_death_costs_the_steps_since_the_checkpoint(tmp_path: Path) -> None:
    straight, _, _ = run(tmp_path / "straight")

    class Dies(Drift):
        def step(self, step: int) -> dict[str, float]:
            if step == 8:
                raise KeyboardInterrupt
            return dict(super().step(step))

    with pytest.raises(KeyboardInterrupt):
        run_loop(Dies(), SETTINGS, checkpoints(tmp_path / "dies"), Heard(), never)
    torch.rand(17)  # whatever another process did meanwhile
    second, heard, _ = run(tmp_path / "dies")
    assert second.made == [6, 7, 8, 9]
    assert heard.steps("started") == [6]
    assert torch.equal(second.value, straight.value)


def test_a_finished_run_makes_no_steps(tmp_path: Path) -> None:
    first, _, _ = run(tmp_path)
    again, heard, result = run(tmp_path)
    assert again.made == []
    assert result.complete
    assert torch.equal(again.value, first.value)
    assert [kind for kind, _, _ in heard.events] == ["started", "finished"]


def test_throughput_counts_steps_and_neither_sheets_nor_checkpoints(tmp_path: Path) -> None:
    now = 0.0

    class Slow(Drift):
        def step(self, step: int) -> dict[str, float]:
            nonlocal now
            now += 0.5
            numbers = dict(super().step(step))
            return {"loss": 1.0, "late": 3.0} if step == 1 else {"loss": numbers["loss"] * 0 + 3.0}

    def sheet() -> np.ndarray:
        nonlocal now
        now += 100.0
        return np.zeros((2, 2, 3), np.uint8)

    heard = Heard()
    settings = LoopSettings(4, batch_size=4, checkpoint_every=9, log_every=2, sample_every=1)
    run_loop(Slow(), settings, checkpoints(tmp_path), heard, never, sheet=sheet, clock=lambda: now)
    numbers = [numbers for kind, _, numbers in heard.events if kind == "train"]
    assert [n["steps_per_s"] for n in numbers] == pytest.approx([2.0, 2.0])
    assert numbers[0]["samples_per_s"] == pytest.approx(8.0)
    assert numbers[0]["loss"] == pytest.approx(2.0)
    assert numbers[0]["late"] == pytest.approx(3.0)  # over the steps that have it


def test_all_processes_stop_when_one_wishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two processes hears of a wish that only the first knows."""
    votes = iter([False, False, True])
    world = World(1, 2)
    monkeypatch.setattr(World, "agree", lambda self, wish: next(votes))
    monkeypatch.setattr(World, "share", lambda self, number: 0)
    monkeypatch.setattr(World, "gather", lambda self, state: [state, state])
    trainer = Drift()
    result = run_loop(
        trainer, SETTINGS, checkpoints(tmp_path, world=world), Heard(), never, world=world
    )
    assert trainer.made == [0, 1, 2]
    assert not result.complete
    assert not list(tmp_path.glob("*.pt"))  # the first process writes
