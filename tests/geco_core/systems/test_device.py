"""Switches of a device: what they change, what they must not change, and where they are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig, SamplerConfig
from geco_core.diffusion.codec import AutoencoderKLCodec
from geco_core.diffusion.reference_attention import ARGUMENT, ReferenceWriter
from geco_core.errors import ConfigError, Fatal
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.systems import device as devices
from geco_core.systems.device import (
    check_device,
    check_memory,
    compile_forward,
    device_named,
    place,
    tf32,
)
from geco_core.systems.instantmesh import InstantMeshSystem, networks_of
from geco_core.types import Condition
from tests.geco_core.checkpoints.published import TINY_VIEWS, tiny_reconstructor

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL = ["sampler.steps=2", "device=cpu"]


def configured(*changes: str) -> InstantMeshConfig:
    return load(InstantMeshConfig, preset_path("instantmesh", "micro"), [*SMALL, *changes])


def models(config: InstantMeshConfig) -> tuple[Zero123Plus, InstantMesh]:
    torch.manual_seed(0)
    return Zero123Plus(config.multiview), InstantMesh(config.reconstructor)


def condition() -> Condition:
    draw = torch.Generator().manual_seed(1)
    rgba = torch.randint(0, 256, (48, 48, 4), generator=draw, dtype=torch.uint8).numpy()
    return Condition("a", rgba=rgba)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["cuda_graphs=true"], "needs compile"),
        (["memory_gb=-1"], "memory_gb"),
        (["reference_cache=-1"], "reference_cache"),
        (["compile=fast"], "compile can not be 'fast'"),
    ],
)
def test_impossible_switches_are_refused_when_they_are_read(words: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        configured(*words)


def test_cuda_graphs_are_refused_on_a_cpu() -> None:
    with pytest.raises(ConfigError, match="device is cpu") as caught:
        check_device(configured("compile=default", "cuda_graphs=true"), CPU)
    assert caught.value.remedy == "set model.cuda_graphs=false"


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.shutil, "which", lambda name: None)
    with pytest.raises(Fatal, match=r"C\+\+ compiler"):
        check_device(configured("compile=default"), CPU)
    check_device(configured(), CPU)


def test_a_gpu_needs_triton_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Fatal, match="triton"):
        check_device(configured("compile=max-autotune"), GPU)


def test_a_gpu_that_is_too_small_is_refused() -> None:
    config = dataclasses.replace(configured(), system="geco", preset="full", memory_gb=10.0)
    check_memory(10 * 10**9, config)
    with pytest.raises(Fatal) as caught:
        check_memory(8 * 2**30, config)
    assert "geco/full is made for 10 GB" in caught.value.message
    assert "8.6 GB" in caught.value.message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(Fatal, match="cuda:1 is configured"):
        device_named("cuda:1")


def test_a_gpu_beyond_those_that_are_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_named("cuda:1") == torch.device("cuda:1")
    with pytest.raises(Fatal, match="cuda:2 is configured but 2 GPUs are visible"):
        device_named("cuda:2")


def test_a_device_that_torch_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="no device 'gpu'"):
        device_named("gpu")


def test_emulated_bfloat16_is_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def emulated(including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", emulated)
    with pytest.raises(ConfigError, match="no bfloat16"):
        check_device(configured("dtype=bfloat16"), GPU)


@pytest.mark.parametrize("name", ["geco-full", "instantmesh-full", "instantmesh-full-base"])
def test_the_weights_of_a_full_preset_leave_room_in_its_budget(name: str) -> None:
    system, _, preset = name.partition("-")
    config = load(InstantMeshConfig, preset_path(system, preset))
    with torch.device("meta"):
        views, reconstructor = Zero123Plus(config.multiview), InstantMesh(config.reconstructor)
    half = sum(p.numel() * 2 for p in views.parameters())
    whole = sum(p.numel() * 4 for p in reconstructor.parameters())
    weights_gb = (half + whole) / 10**9
    assert config.memory_gb >= 10.0
    assert 4.5 < weights_gb < 0.6 * config.memory_gb


class Captured:
    """A backend that counts the graphs it gets and runs them as they are."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


def test_the_large_networks_are_compiled_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, str | None]] = []

    def stand_in(call: Any, *, mode: str | None, backend: object) -> Any:
        seen.append((call.__self__, mode))
        return call

    monkeypatch.setattr(torch, "compile", stand_in)
    config = InstantMeshConfig(
        multiview=TINY_VIEWS, reconstructor=tiny_reconstructor(), compile="max-autotune"
    )
    views, reconstructor = models(config)
    place(config, CPU, networks_of(views, reconstructor))
    codec = views.codec
    assert isinstance(codec, AutoencoderKLCodec)
    assert [module for module, _ in seen] == [
        views.unet,
        codec.vae.encoder,
        codec.vae.decoder,
        reconstructor.encoder,
        reconstructor.transformer,
    ]
    assert {mode for _, mode in seen} == {"max-autotune-no-cudagraphs"}


@pytest.mark.slow
def test_compiled_networks_make_the_same_views_and_planes() -> None:
    sampler = SamplerConfig(kind="one_step", steps=1, guidance_scale=1.0)
    config = InstantMeshConfig(
        multiview=TINY_VIEWS, sampler=sampler, reconstructor=tiny_reconstructor(), device="cpu"
    )
    plain = InstantMeshSystem(config, *models(config), "digest", CPU)
    expected = plain.multiview([condition()], [3])
    images = torch.rand(1, 6, 3, 32, 32)
    planes = plain.models[1].forward_planes(images, expected.cameras)

    traced, backend = models(config), Captured()
    names = [list(m.state_dict()) for m in traced]
    compiled = InstantMeshSystem(config, *traced, "digest", CPU)
    place(
        dataclasses.replace(config, compile="default"),
        CPU,
        networks_of(*traced),
        backend=backend,
    )
    assert [list(m.state_dict()) for m in traced] == names
    found = compiled.multiview([condition()], [3])
    # The autoencoder's two halves, and the whole U-Net: writing the reference and reading it.
    assert backend.graphs == 4
    torch.testing.assert_close(found.images, expected.images, atol=2e-5, rtol=0)
    again = traced[1].forward_planes(images, expected.cameras)
    assert backend.graphs == 6  # image encoder and triplane transformer
    torch.testing.assert_close(again, planes, atol=1e-5, rtol=1e-5)
    compiled.multiview([condition()], [4])
    assert backend.graphs == 6


def test_what_a_recorded_graph_returns_survives_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in for the memory of a CUDA graph: one buffer that every call overwrites."""
    buffer = torch.zeros(2)

    class Overwriting(torch.nn.Module):
        def forward(self, x: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor]:
            buffer.copy_(x)
            writer = (kwargs.get("cross_attention_kwargs") or {}).get(ARGUMENT)
            if writer is not None:
                writer.layers["layer"] = buffer
            return (buffer,)

    module, writer = Overwriting(), ReferenceWriter()
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    compile_forward(module, graphs=True)
    (first,) = module(torch.ones(2), cross_attention_kwargs={ARGUMENT: writer})
    module(torch.zeros(2))
    assert first.tolist() == writer.layers["layer"].tolist() == [1.0, 1.0]


def test_channels_last_moves_nothing_but_memory() -> None:
    config = configured("channels_last=always", "sampler.kind=one_step", "sampler.steps=1")
    system = InstantMeshSystem(config, *models(config), "digest", CPU)
    weight = system.models[0].unet.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    other = dataclasses.replace(config, channels_last="auto")
    plain = InstantMeshSystem(other, *models(other), "digest", CPU)
    assert plain.models[0].unet.conv_in.weight.is_contiguous()
    found, expected = (s.multiview([condition()], [3]).images for s in (system, plain))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_tf32_is_allowed_inside_the_block_alone() -> None:
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    with tf32(allowed=True):
        assert [flag.allow_tf32 for flag in flags] == [True, True]
        with tf32(allowed=False):
            assert [flag.allow_tf32 for flag in flags] == [False, False]
        assert [flag.allow_tf32 for flag in flags] == [True, True]
    assert [flag.allow_tf32 for flag in flags] == before


@pytest.mark.gpu
def test_a_gpu_gives_the_same_meshes_compiled_and_not() -> None:
    words = ("device=cuda", "sampler.kind=one_step", "sampler.steps=1")
    config = configured(*words)
    plain = InstantMeshSystem(config, *models(config), "digest", GPU)
    expected = plain.multiview([condition(), condition()], [3, 4])
    for switches in ({"cuda_graphs": False}, {"cuda_graphs": True}):
        switched = dataclasses.replace(config, compile="default", **switches)
        system = InstantMeshSystem(switched, *models(switched), "digest", GPU)
        for _ in range(3):
            found = system.multiview([condition(), condition()], [3, 4])
        torch.testing.assert_close(found.images, expected.images, atol=1e-3, rtol=0)
