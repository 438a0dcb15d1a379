"""Stage II's step: resume is exact, pieces add up, renders are drawn without replacement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from geco_core.distill.optimise import batch_pieces
from geco_core.distill.stage2 import Stage2Batch
from geco_core.distill.stage2_trainer import Stage2Trainer, Stage2TrainerConfig
from geco_core.distill.world import World
from geco_core.errors import ConfigError, Fatal
from geco_core.multiview.zero123plus import Zero123Plus
from tests.geco_core.distill.test_stage2 import stage2, target_batch
from tests.support.tiny_models import TINY_PATCH_VIEWS

STEPS = Stage2TrainerConfig(
    steps=10, batch_size=4, views=2, reconstructor_rate=1e-3, generator_rate=1e-3, clip_norm=1e6
)


class Targets:
    """Six conditions with three renders each."""

    renders = 3

    def __init__(self, model: Zero123Plus) -> None:
        self._all = target_batch(model, count=6, views=3)
        self.asked: list[Tensor] = []

    def __len__(self) -> int:
        return 6

    def batch(self, rows: Tensor, views_BK: Tensor) -> Stage2Batch:
        self.asked.append(views_BK)
        every = self._all
        return Stage2Batch(
            every.images[rows],
            every.z[rows],
            every.renders[rows[:, None], views_BK],
            every.masks[rows[:, None], views_BK],
            every.w2c[rows[:, None], views_BK],
            every.fov_deg,
        )


def new_trainer(
    steps: Stage2TrainerConfig = STEPS, world: World | None = None, *, joint: bool = False
) -> Stage2Trainer:
    torch.manual_seed(0)
    model = Zero123Plus(TINY_PATCH_VIEWS)
    return Stage2Trainer(
        stage2(model, train_generator=joint), Targets(model), steps, world or World()
    )


def weights(trainer: Stage2Trainer) -> dict[str, Tensor]:
    modules = {"r": trainer.stage2.reconstructor, "g": trainer.stage2.generator.unet}
    return {f"{n}.{k}": v.clone() for n, m in modules.items() for k, v in m.state_dict().items()}


@pytest.mark.parametrize("joint", [False, True])
def test_a_resumed_run_does_what_the_uninterrupted_one_did(tmp_path: Path, joint: bool) -> None:
    straight = new_trainer(joint=joint)
    start = weights(straight)
    for step in range(3):
        straight.step(step)
    first = new_trainer(joint=joint)
    first.step(0)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = new_trainer(joint=joint)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in (1, 2):
        numbers = second.step(step)
    a, b = weights(straight), weights(second)
    assert all(torch.equal(a[key], b[key]) for key in a)
    for name, ema in straight.emas.items():
        other = second.emas[name].shadow
        assert all(torch.equal(value, other[key]) for key, value in ema.shadow.items())
    moved = {key[0] for key in a if not torch.equal(a[key], start[key])}
    assert moved == ({"r", "g"} if joint else {"r"})
    assert {"loss", "mse", "perceptual", "reconstructor_norm"} <= set(numbers)
    assert ("generator_norm" in numbers) == joint


def test_pieces_add_up_to_the_whole_batch() -> None:
    ends = []
    for pieces in (1, 4):
        trainer = new_trainer(replace(STEPS, accumulation=pieces))
        numbers = [trainer.step(step) for step in range(2)][-1]
        ends.append((weights(trainer), numbers))
    for key, value in ends[0][0].items():
        torch.testing.assert_close(value, ends[1][0][key], atol=2e-4, rtol=1e-3, msg=key)
    for key, value in ends[0][1].items():
        assert ends[1][1][key] == pytest.approx(value, rel=1e-3, abs=1e-7), key


def test_a_rows_renders_depend_on_its_place_and_not_on_the_process() -> None:
    alone = new_trainer()
    (whole,) = batch_pieces(6, 0, STEPS, World())
    alone.batch(0, whole)
    views = alone._data.asked[-1]
    assert all(len(set(row.tolist())) == 2 for row in views)
    for rank in range(2):
        world = World(rank, 2)
        one = new_trainer(world=world)
        (piece,) = batch_pieces(6, 0, STEPS, world)
        one.batch(0, piece)
        assert torch.equal(one._data.asked[-1], views[rank::2])
    alone.batch(1, whole)
    assert not torch.equal(alone._data.asked[-1], views)


def test_swapping_averages_twice_changes_nothing() -> None:
    trainer = new_trainer(joint=True)
    trainer.step(0)
    before = weights(trainer)
    trainer.swap_averages()
    assert any(not torch.equal(value, before[key]) for key, value in weights(trainer).items())
    trainer.swap_averages()
    assert all(torch.equal(value, before[key]) for key, value in weights(trainer).items())


def test_foreign_checkpoints_and_too_many_renders_are_refused() -> None:
    trainer = new_trainer()
    with pytest.raises(Fatal, match="does not fit"):
        new_trainer(joint=True).load_state_dict(trainer.state_dict())
    with pytest.raises(ConfigError, match="draws 4 renders, a target has 3"):
        new_trainer(replace(STEPS, views=4))
