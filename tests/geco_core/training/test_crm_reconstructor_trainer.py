"""The training step of the reconstructor: through renders, one object at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geco_core.config.train import CrmTrainingConfig
from geco_core.distill.world import World
from geco_core.errors import ConfigError
from geco_core.reconstruct.crm_input import network_input
from geco_core.training.crm_build import build_crm_training
from geco_core.training.crm_folder import CrmFolder
from geco_core.training.crm_reconstructor_trainer import CrmReconstructorTrainer
from geco_core.training.rng import seed_torch
from tests.support.tiny_training import RENDER_SIZE, Memory, objects, tiny_training


@pytest.fixture(scope="module")
def files() -> Memory:
    return objects(5)


def trainer(files: Memory, config: CrmTrainingConfig | None = None) -> CrmReconstructorTrainer:
    config = config or tiny_training("reconstructor", steps=4)
    seed_torch(config.seed)
    built = build_crm_training(config, CrmFolder(files, 0), World(), config.init)
    assert isinstance(built.trainer, CrmReconstructorTrainer)
    return built.trainer


def test_a_resumed_training_is_the_uninterrupted_one(files: Memory) -> None:
    straight = trainer(files)
    numbers = [straight.step(step) for step in range(3)]
    assert all(np.isfinite(n["loss"]) and n["norm"] > 0 and n["empty"] == 0 for n in numbers)
    first, second = trainer(files), trainer(files)
    first.step(0)
    second.load_state_dict(first.state_dict())
    for step in (1, 2):
        second.step(step)
    assert all(torch.equal(v, second.weights()[k]) for k, v in straight.weights().items())


def test_accumulation_does_not_change_the_step(files: Memory) -> None:
    ones = []
    for pieces in (1, 4):
        made = trainer(files, tiny_training("reconstructor", accumulation=pieces))
        ones.append(made.step(0))
    assert ones[0]["loss"] == pytest.approx(ones[1]["loss"], rel=1e-4)
    assert ones[0]["norm"] == pytest.approx(ones[1]["norm"], rel=1e-3)


def test_rows_are_the_networks_input_and_drawn_renders(files: Memory) -> None:
    made = trainer(files)
    rows = made._rows
    row = rows.row(0, 0, 0)
    assert row.inputs.shape == (12, 16, 48)
    assert 0.0 <= float(row.inputs.min()) < float(row.inputs.max()) <= 1.0
    grey = network_input(*(torch.full((1, 6, 3, 16, 16), 127 / 255) for _ in range(2)))[0]
    corner = (row.inputs - grey)[:, 0, 0]
    assert float(corner.abs().max()) < 1e-3
    drawn = {tuple(rows.row(step, 0, 0).renders.c2w[:, 0, 3].tolist()) for step in range(12)}
    assert len(drawn) > 2  # other renders in other steps


def test_a_sheet_shows_true_renders_and_ours(files: Memory) -> None:
    image = trainer(files).look(2)
    assert image.shape == (2 * 128, (2 + 2) * 128, 3)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"views_per_step": 9}, "an object has 3"),
        ({"render_size": 32}, rf"set render\.render_size={RENDER_SIZE}"),
        ({"point_weight": 0.1}, "needs points"),
    ],
)
def test_what_does_not_fit_is_refused(files: Memory, change: dict, match: str) -> None:
    config = tiny_training("reconstructor")
    with pytest.raises(ConfigError, match=match):
        trainer(files, replace(config, render=replace(config.render, **change)))


def test_what_a_row_holds_does_not_depend_on_the_rows_before_it(files: Memory) -> None:
    """Else a resumed training would differ where an object is damaged."""
    broken = Memory({k: v for k, v in files.items() if k != "train-000003/render_002.png"})
    used, drawn = trainer(broken)._rows, []
    for step in range(8):
        fresh = trainer(broken)._rows.row(step, 0, 3)
        drawn.append(used.row(step, 0, 3))
        assert torch.equal(drawn[-1].inputs, fresh.inputs)
        assert torch.equal(drawn[-1].renders.c2w, fresh.renders.c2w)
    assert len({float(row.inputs.sum()) for row in drawn}) == 2  # itself or the next one


def test_a_row_reads_every_file_once(files: Memory) -> None:
    class Counted(Memory):
        def read(self, name: str, max_bytes: int) -> bytes:
            names.append(name)
            return super().read(name, max_bytes)

    names: list[str] = []
    rows = trainer(Counted(files))._rows
    names.clear()
    rows.row(0, 0, 1)
    assert len(names) == len(set(names)) == 1 + 2 * 2 + 12  # cameras, renders, pictures


def test_a_damaged_held_out_object_does_not_end_the_training(files: Memory) -> None:
    config = tiny_training("reconstructor", steps=4, batch_size=2)
    broken = Memory({k: v for k, v in files.items() if k != "train-000000/xyz_new_003.png"})
    built = build_crm_training(config, CrmFolder(broken, 2), World(), config.init)
    assert isinstance(built.trainer, CrmReconstructorTrainer)
    whole = build_crm_training(config, CrmFolder(files, 2), World(), config.init)
    assert isinstance(whole.trainer, CrmReconstructorTrainer)
    assert built.trainer.look(2).shape == whole.trainer.look(2).shape
    assert list(built.trainer._rows.folder.bad) == ["train-000000"]


def test_an_object_without_renders_is_replaced(files: Memory) -> None:
    broken = Memory({k: v for k, v in files.items() if k != "train-000003/cameras.json"})
    made = trainer(broken)
    made._rows.row(0, 0, 3)
    assert list(made._rows.folder.bad) == ["train-000003"]
