"""Stage I's step: gradients go where they should, resume is exact, workers and pieces add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from geco_core.distill.draws import RowDraws
from geco_core.distill.networks import stage1_networks
from geco_core.distill.stage1 import PAPER, Stage1, Stage1Config
from geco_core.distill.stage1_trainer import Stage1Trainer, Stage1TrainerConfig
from geco_core.distill.world import World
from geco_core.errors import Fatal
from geco_core.multiview.zero123plus import Zero123Plus
from tests.geco_core.distill.conftest import RandomData
from tests.support.tiny_models import TINY_PATCH_VIEWS

LOSSES = Stage1Config(student_steps=2, regression_weight=0.5)
STEPS = Stage1TrainerConfig(
    steps=10, batch_size=4, generator_rate=1e-3, student_rate=1e-3, clip_norm=1e6
)


def new_trainer(
    losses: Stage1Config = LOSSES,
    steps: Stage1TrainerConfig = STEPS,
    world: World | None = None,
    rank: int | None = None,
) -> Stage1Trainer:
    torch.manual_seed(0)
    teacher = Zero123Plus(TINY_PATCH_VIEWS)
    nets = stage1_networks(teacher, student_rank=rank)
    data = RandomData(teacher, pairs=bool(losses.regression_weight))
    return Stage1Trainer(Stage1(nets, losses), data, steps, world or World())


def weights(trainer: Stage1Trainer) -> dict[str, torch.Tensor]:
    nets = trainer.stage1.networks
    return {
        f"{name}.{key}": value.detach().clone()
        for name, model in (("generator", nets.generator), ("student", nets.student))
        for key, value in model.unet.state_dict().items()
    }


def test_each_loss_trains_its_own_network(teacher: Zero123Plus) -> None:
    nets = stage1_networks(teacher)
    stage1, data = Stage1(nets, Stage1Config()), RandomData(teacher)
    draws = RowDraws(0, 0, range(3))
    conditions = stage1.conditions(data.images(torch.arange(3)), draws)
    loss, latents, _ = stage1.generator_loss(conditions, draws)
    loss.backward()
    assert all(p.grad is None for p in nets.student.unet.parameters())
    reached = [p.grad is not None and bool(p.grad.any()) for p in nets.generator_parameters]
    assert sum(reached) > 0.8 * len(reached)
    before = [None if p.grad is None else p.grad.clone() for p in nets.generator_parameters]
    loss, _ = stage1.student_loss(latents, conditions, draws)
    loss.backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in nets.student_parameters)
    for old, parameter in zip(before, nets.generator_parameters, strict=True):
        assert old is None if parameter.grad is None else torch.equal(old, parameter.grad)
    assert all(p.grad is None for p in nets.teacher.unet.parameters())


@pytest.mark.parametrize("losses", [LOSSES, replace(PAPER, regression_weight=0.1)])
@pytest.mark.parametrize("rank", [None, 2])
def test_steps_change_both_networks_and_repeat_exactly(
    losses: Stage1Config, rank: int | None
) -> None:
    start = weights(new_trainer(losses, rank=rank))
    ends = []
    for _ in range(2):
        trainer = new_trainer(losses, rank=rank)
        numbers = [trainer.step(step) for step in range(2)]
        ends.append(weights(trainer))
        assert {"vsd", "regression", "student", "generator_norm", "student_norm"} <= set(numbers[0])
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in start)
    for name in ("generator", "student"):
        assert any(not torch.equal(start[k], ends[0][k]) for k in start if k.startswith(name))


def test_a_resumed_run_does_what_the_uninterrupted_one_did(tmp_path: Path) -> None:
    straight = new_trainer()
    for step in range(4):
        straight.step(step)
    first = new_trainer()
    for step in range(2):
        first.step(step)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = new_trainer()
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(2, 4):
        second.step(step)
    a, b = weights(straight), weights(second)
    assert all(torch.equal(a[key], b[key]) for key in a)
    shadows = straight.ema.shadow, second.ema.shadow
    assert all(torch.equal(shadows[0][key], shadows[1][key]) for key in shadows[0])


def test_a_foreign_checkpoint_is_refused() -> None:
    with pytest.raises(Fatal, match="does not fit"):
        new_trainer(rank=2).load_state_dict(new_trainer().state_dict())


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    # Sums in another order move a gradient by 1e-7; AdamW turns that into at most 1e-3 x rate for
    # the few weights whose gradient is that small.
    for key, value in a.items():
        torch.testing.assert_close(value, b[key], atol=2e-4, rtol=1e-3, msg=key)


def test_accumulated_pieces_equal_the_whole_batch() -> None:
    ends = []
    for pieces in (1, 2):
        trainer = new_trainer(steps=replace(STEPS, accumulation=pieces))
        for step in range(2):
            numbers = trainer.step(step)
        ends.append((weights(trainer), numbers))
    close(ends[0][0], ends[1][0])
    for key, value in ends[0][1].items():
        assert ends[1][1][key] == pytest.approx(value, rel=1e-2), key


def _train_as_one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    trainer = new_trainer(world=World.current())
    for step in range(2):
        numbers = trainer.step(step)
    if rank == 0:
        torch.save({"weights": weights(trainer), "numbers": dict(numbers)}, f"{folder}/end.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_equal_one_on_the_same_global_batch(tmp_path: Path) -> None:
    mp.spawn(_train_as_one_of_two, args=(str(tmp_path),), nprocs=2)
    both = torch.load(tmp_path / "end.pt", weights_only=True)
    alone = new_trainer()
    for step in range(2):
        numbers = alone.step(step)
    close(weights(alone), both["weights"])
    for key, value in numbers.items():
        assert both["numbers"][key] == pytest.approx(value, rel=1e-2), key


def test_regression_alone_approaches_the_teacher_samples() -> None:
    losses = Stage1Config(vsd_weight=0.0, regression_weight=1.0)
    steps = replace(STEPS, generator_rate=3e-3, batch_size=8)
    trainer = new_trainer(losses, steps)
    errors = [trainer.step(step)["regression"] for step in range(10)]
    assert errors[-1] < 0.9 * errors[0]


def test_regression_without_samples_is_refused(teacher: Zero123Plus) -> None:
    stage1 = Stage1(stage1_networks(teacher), Stage1Config(regression_weight=1.0))
    draws = RowDraws(0, 0, range(2))
    conditions = stage1.conditions(RandomData(teacher).images(torch.arange(2)), draws)
    with pytest.raises(ValueError, match="no teacher samples"):
        stage1.generator_loss(conditions, draws)


def test_non_finite_losses_stop_the_run() -> None:
    trainer = new_trainer()
    with torch.no_grad():
        trainer.stage1.networks.generator_parameters[0].fill_(float("nan"))
    with pytest.raises(Fatal, match="step 0"):
        trainer.step(0)


def test_the_rate_rises_and_falls() -> None:
    cfg = Stage1TrainerConfig(steps=100, warmup_steps=10, decay_steps=20)
    assert cfg.factor(0) == pytest.approx(0.1)
    assert cfg.factor(50) == 1.0
    assert cfg.factor(90) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "wrong", [{"t_bounds": (0.5, 0.2)}, {"student_steps": -1}, {"vsd_weight": 0.0}]
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"rise|negative|nothing"):
        Stage1Config(**wrong)


def test_warm_steps_train_on_the_regression_alone() -> None:
    losses = replace(LOSSES, warm_steps=1)
    trainer = new_trainer(losses)
    before = weights(trainer)
    first = trainer.step(0)
    assert "regression" in first
    assert not {"vsd", "student"} & set(first)
    after = weights(trainer)
    changed = {k.partition(".")[0] for k in after if not torch.equal(after[k], before[k])}
    assert changed == {"generator"}
    assert {"regression", "vsd", "student"} <= set(trainer.step(1))
    with pytest.raises(ValueError, match="nothing to warm up on"):
        Stage1Config(warm_steps=1)
