"""The training step of the diffusion stages: what learns, and that only the seed decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from geco_core.config.crm import DdimConfig
from geco_core.config.train import CrmTrainingConfig
from geco_core.distill.world import World
from geco_core.errors import Fatal
from geco_core.multiview.imagedream import ImageDream
from geco_core.training.crm_build import build_crm_training
from geco_core.training.crm_diffusion_trainer import CrmDiffusionTrainer
from geco_core.training.crm_folder import CrmFolder
from geco_core.training.frames import FrameLossConfig
from geco_core.training.rng import seed_torch
from tests.support.tiny_training import Memory, objects, tiny_training

STAGES = ("views", "ccm")
SAMPLER = DdimConfig(steps=2, guidance_scale=1.0)


@pytest.fixture(scope="module")
def files() -> Memory:
    return objects(6)


def trainer(
    files: Memory, config: CrmTrainingConfig, world: World | None = None
) -> CrmDiffusionTrainer:
    seed_torch(config.seed)
    built = build_crm_training(config, CrmFolder(files, 0), world or World(), config.init)
    assert isinstance(built.trainer, CrmDiffusionTrainer)
    return built.trainer


def weights(of: CrmDiffusionTrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in of.model.state_dict().items()}


@pytest.mark.parametrize("stage", STAGES)
def test_the_network_learns_and_the_encoders_do_not(stage: Any, files: Memory) -> None:
    made = trainer(files, tiny_training(stage))
    encoders = {k: v.clone() for k, v in made._encoders.state_dict().items()}
    before = weights(made)
    numbers = [made.step(step) for step in range(3)]
    assert all(n["loss"] > 0 and n["norm"] > 0 and n["bad_objects"] == 0 for n in numbers)
    after = weights(made)
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert not still  # the Resampler learns too
    assert all(torch.equal(v, encoders[k]) for k, v in made._encoders.state_dict().items())


@pytest.mark.parametrize("stage", STAGES)
def test_a_resumed_training_is_the_uninterrupted_one(stage: Any, files: Memory) -> None:
    config = tiny_training(stage, ema_decay=0.9)
    straight = trainer(files, config)
    for step in range(3):
        straight.step(step)
    first = trainer(files, config)
    first.step(0)
    second = trainer(files, replace(config, examples=replace(config.examples, threads=1)))
    second.load_state_dict(first.state_dict())
    for step in (1, 2):
        second.step(step)
    assert all(torch.equal(v, second.weights()[k]) for k, v in straight.weights().items())


def test_pieces_and_processes_do_not_change_the_gradient(files: Memory) -> None:
    config = tiny_training("views", accumulation=1)
    found = []
    for accumulation, worlds in ((1, [World()]), (4, [World()]), (1, [World(0, 2), World(1, 2)])):
        total: dict[str, torch.Tensor] = {}
        for world in worlds:
            numbers = replace(config.updates, accumulation=accumulation)
            made = trainer(files, replace(config, updates=numbers), world)
            for piece in made._pieces(5):
                (made.piece_loss(5, piece) * piece.weight).backward()
            for name, value in made.model.named_parameters():
                assert value.grad is not None
                total[name] = total.get(name, 0) + value.grad / len(worlds)
        found.append(total)
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5)


def test_the_reference_frame_and_the_shown_views_are_read(files: Memory) -> None:
    def loss(stage: Any, blank: str) -> float:
        made = trainer(files, tiny_training(stage))
        (piece, *_) = made._pieces(0)
        take = made._ahead.take

        def blanked(step: int, of: Any) -> Any:
            rows = take(step, of)
            return [replace(r, **{blank: torch.zeros_like(getattr(r, blank))}) for r in rows]

        plain = float(made.piece_loss(0, piece).detach())
        made._ahead.take = blanked  # type: ignore[method-assign]
        return abs(float(made.piece_loss(0, piece).detach()) - plain)

    assert loss("views", "condition") > 1e-6
    assert loss("ccm", "shown") > 1e-6
    assert loss("views", "vision") > 1e-7


@pytest.mark.parametrize("stage", STAGES)
def test_every_frame_has_its_own_time_the_reference_too(stage: Any, files: Memory) -> None:
    made = trainer(files, tiny_training(stage))
    (piece, *_) = made._pieces(0)
    frames = made.model.config.rig.frames
    times = made._draws(0, piece).times
    assert times.shape == (len(piece.places), frames)
    assert all(len(set(row.tolist())) > frames - 2 for row in times)
    shared = trainer(files, replace(tiny_training(stage), loss=FrameLossConfig(False)))
    same = shared._draws(0, piece).times
    assert same.shape == times.shape
    assert all(len(set(row.tolist())) == 1 for row in same)


def test_a_damaged_held_out_object_does_not_end_the_training(files: Memory) -> None:
    broken = Memory({k: v for k, v in files.items() if k != "train-000000/003.png"})
    config = tiny_training("views", batch_size=2)
    built = build_crm_training(config, CrmFolder(broken, 2), World(), config.init)
    assert isinstance(built.trainer, CrmDiffusionTrainer)
    assert built.trainer.look(2, SAMPLER).shape == (2 * 128, (1 + 6 + 6) * 128, 3)
    assert list(built.trainer._rows.folder.bad) == ["train-000000"]


def test_float16_scales_the_loss(files: Memory) -> None:
    made = trainer(files, tiny_training("views", precision="float16"))
    before = weights(made)
    numbers = [made.step(step) for step in range(2)]
    assert all(n["loss"] > 0 for n in numbers)
    assert "scale" in made.state_dict()["steps"]
    assert any(not torch.equal(before[k], v) for k, v in weights(made).items())


def test_a_sheet_shows_condition_truth_and_samples(files: Memory) -> None:
    config = tiny_training("ccm", ema_decay=0.9)
    made = trainer(files, config)
    kept = weights(made)
    image = made.look(2, SAMPLER)
    assert image.shape == (2 * 128, (1 + 6 + 6) * 128, 3)
    assert (image == made.look(2, SAMPLER)).all()
    assert all(torch.equal(kept[k], v) for k, v in weights(made).items())


def test_a_foreign_checkpoint_is_refused(files: Memory) -> None:
    made = trainer(files, tiny_training("views"))
    with pytest.raises(Fatal, match="does not fit"):
        made.load_state_dict({"weights": ImageDream(made.model.config).state_dict(), "steps": {}})
