"""Reference attention: what is stored, what is read, what gradients and checkpointing see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from geco_core.diffusion.reference_attention import (
    ReferenceFeatures,
    ReferenceReader,
    ReferenceWriter,
    self_attention_names,
)
from geco_core.diffusion.unet import build_unet
from tests.support.tiny_models import TINY_UNET

CONFIG = replace(TINY_UNET, attention_levels=(True, False), attention_heads=(2, 2))


@pytest.fixture
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return build_unet(CONFIG)


@pytest.fixture
def inputs(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Tile [2, 4, 12, 8], condition latents [2, 4, 8, 8], states [2, 5, 8]."""
    return (
        torch.randn(2, 4, 12, 8, generator=generator),
        torch.randn(2, 4, 8, 8, generator=generator),
        torch.randn(2, 5, 8, generator=generator),
    )


def run(unet: UNet2DConditionModel, x: Tensor, states: Tensor, hook: object) -> Tensor:
    kwargs = {"reference": hook} if hook is not None else None
    return unet(x, 7, states, cross_attention_kwargs=kwargs, return_dict=False)[0]


def write(unet: UNet2DConditionModel, cond: Tensor, states: Tensor) -> ReferenceFeatures:
    writer = ReferenceWriter()
    run(unet, cond, states, writer)
    return writer.features(torch.zeros(1, 4, 2, 2))


def test_without_a_hook_it_is_diffusers(
    unet: UNet2DConditionModel, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    sample, _, states = inputs
    ours = run(unet, sample, states, None)
    unet.set_attn_processor(AttnProcessor())
    torch.testing.assert_close(ours, run(unet, sample, states, None), rtol=1e-4, atol=1e-5)


def test_writing_stores_every_self_attention_and_changes_nothing(
    unet: UNet2DConditionModel, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    _, cond, states = inputs
    writer = ReferenceWriter()
    written = run(unet, cond, states, writer)
    assert torch.equal(written, run(unet, cond, states, None))
    assert set(writer.layers) == set(self_attention_names(unet))
    shapes = {tuple(x.shape) for x in writer.layers.values()}
    assert shapes == {(2, 64, 8), (2, 16, 16)}


def test_reading_changes_the_output_and_consumes_nothing(
    unet: UNet2DConditionModel, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    sample, cond, states = inputs
    features = write(unet, cond, states)
    first = run(unet, sample, states, ReferenceReader(features))
    assert torch.equal(first, run(unet, sample, states, ReferenceReader(features)))
    assert float((first - run(unet, sample, states, None)).abs().max()) > 1e-4


def test_rows_read_their_own_reference(
    unet: UNet2DConditionModel, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    sample, cond, states = inputs
    straight = run(unet, sample, states, ReferenceReader(write(unet, cond, states)))
    swapped = run(unet, sample, states, ReferenceReader(write(unet, cond.flip(0), states.flip(0))))
    assert float((straight - swapped).abs().max()) > 1e-4


def test_one_stored_row_serves_the_batch(
    unet: UNet2DConditionModel, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    sample, cond, states = inputs
    single = write(unet, cond[:1], states[:1])
    broadcast = run(unet, sample, states, ReferenceReader(single))
    repeated = run(unet, sample, states, ReferenceReader(single.repeat_interleave(2)))
    torch.testing.assert_close(broadcast, repeated)


def gradients(
    unet: UNet2DConditionModel, inputs: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    sample, cond, states = inputs
    cond = cond.clone().requires_grad_()
    unet.zero_grad()
    reader = ReferenceReader(write(unet, cond, states))
    run(unet, sample, states, reader).square().sum().backward()
    assert cond.grad is not None
    found = {n: p.grad.clone() for n, p in unet.named_parameters() if p.grad is not None}
    return cond.grad, found


def test_gradients_flow_through_the_writing_pass(
    unet: UNet2DConditionModel, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    through_condition, _ = gradients(unet, inputs)
    assert float(through_condition.abs().max()) > 0
    sample, cond, states = inputs
    features = write(unet, cond.requires_grad_(), states).detach()
    cut = run(unet, sample, states, ReferenceReader(features)).square().sum()
    assert torch.autograd.grad(cut, cond, allow_unused=True)[0] is None


def test_gradient_checkpointing_gives_the_same_gradients(
    unet: UNet2DConditionModel, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    unet.train()
    plain_condition, plain = gradients(unet, inputs)
    unet.enable_gradient_checkpointing()
    checkpointed_condition, checkpointed = gradients(unet, inputs)
    torch.testing.assert_close(checkpointed_condition, plain_condition)
    assert plain.keys() == checkpointed.keys()
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, msg=name)
