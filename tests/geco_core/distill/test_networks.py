"""Generator, teacher and student share what they may and nothing else."""

from __future__ import annotations

import pytest
import torch

from geco_core.distill.networks import ConditionBatch, guided_velocity, sibling, stage1_networks
from geco_core.multiview.zero123plus import Zero123Plus


def conditions(model: Zero123Plus) -> ConditionBatch:
    g = torch.Generator().manual_seed(1)
    vae, clip = torch.randn(2, 3, 16, 16, generator=g), torch.randn(2, 3, 8, 8, generator=g)
    with torch.no_grad():
        return ConditionBatch(model.encode_condition(vae, clip), model.negative_condition(2))


def test_a_sibling_has_its_own_unet_and_nothing_else(teacher: Zero123Plus) -> None:
    other = sibling(teacher)
    assert other.vision is teacher.vision
    assert other.codec is teacher.codec
    assert other.unet is not teacher.unet
    with torch.no_grad():
        next(other.unet.parameters()).add_(1.0)
    mine, theirs = next(teacher.unet.parameters()), next(other.unet.parameters())
    assert not torch.equal(mine, theirs)
    assert teacher.unet is not other.unet


@pytest.mark.parametrize("rank", [None, 2])
def test_all_three_start_as_the_teacher(teacher: Zero123Plus, rank: int | None) -> None:
    nets = stage1_networks(teacher, student_rank=rank)
    rows = conditions(teacher)
    g = torch.Generator().manual_seed(2)
    x = torch.randn(2, *teacher.latent_shape, generator=g)
    t = torch.tensor([100, 900])
    noise = torch.randn(2, 2, *teacher.condition_shape, generator=g)
    with torch.no_grad():
        made = [
            guided_velocity(m, x, t, rows, (noise[0], noise[1]), 3.0)
            for m in (nets.teacher, nets.generator, nets.student)
        ]
    torch.testing.assert_close(made[1], made[0], rtol=0, atol=0)
    torch.testing.assert_close(made[2], made[0], rtol=0, atol=1e-6)


def test_what_is_trained(teacher: Zero123Plus) -> None:
    nets = stage1_networks(teacher)
    assert not any(p.requires_grad for p in nets.teacher.parameters())
    assert all(p.requires_grad for p in nets.generator_parameters)
    assert all(p.requires_grad for p in nets.student_parameters)
    low = stage1_networks(teacher, student_rank=2)
    count = sum(p.numel() for p in low.student_parameters)
    assert 0 < count < sum(p.numel() for p in teacher.unet.parameters()) / 4
    trained = {id(p) for p in low.student.unet.parameters() if p.requires_grad}
    assert trained == {id(p) for p in low.student_parameters}


def test_guidance_is_linear_in_its_scale(teacher: Zero123Plus) -> None:
    rows = conditions(teacher)
    g = torch.Generator().manual_seed(3)
    x, t = torch.randn(2, *teacher.latent_shape, generator=g), torch.tensor([50, 700])
    pair = torch.randn(2, 2, *teacher.condition_shape, generator=g)
    noise = (pair[0], pair[1])
    with torch.no_grad():
        one, two, four = (guided_velocity(teacher, x, t, rows, noise, s) for s in (1.0, 2.0, 4.0))
        positive = teacher.predict_v(x, t, rows.positive, noise[1])
    torch.testing.assert_close(one, positive)
    torch.testing.assert_close(four - two, 2 * (two - one), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(one, two)
