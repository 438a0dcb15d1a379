"""How a system is put on a device: precision, memory layout, compilation, CUDA graphs, TF32,
budget.

Every switch that cannot work where it is asked for is refused before anything is loaded, because a
switch that is silently ignored makes a measurement wrong. Attention needs no switch: every network
calls torch's fused kernel (`geco_core.attention`; the towers and the autoencoder by their
libraries), which streams its scores on a GPU.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from geco_core.config.placement import PlacementConfig
from geco_core.diffusion.codec import AutoencoderKLCodec, LatentCodec
from geco_core.diffusion.reference_attention import ARGUMENT, ReferenceWriter
from geco_core.errors import ConfigError, Fatal

GIGABYTE = 10**9
Backend = str | Callable[..., Callable[..., Any]]
# (compile, cuda_graphs) -> torch's name of the mode; None is its default.
_MODES: dict[tuple[str, bool], str | None] = {
    ("default", False): None,
    ("default", True): "reduce-overhead",
    ("max-autotune", False): "max-autotune-no-cudagraphs",
    ("max-autotune", True): "max-autotune",
}


@dataclass(frozen=True)
class Networks:
    """What of a system goes to its device.

    Attributes:
        models: all of it.
        convolutions: those with channels to bring last; tokens have none.
        compiled: what is worth compiling: all but what runs once per condition.
    """

    models: tuple[nn.Module, ...]
    convolutions: tuple[nn.Module, ...]
    compiled: tuple[nn.Module, ...]


def precision(name: str, device: torch.device) -> torch.dtype:
    """The configured precision; "auto" is float16 on a GPU, as published, and float32 elsewhere."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return getattr(torch, name)


def device_named(name: str) -> torch.device:
    """The configured device.

    Raises:
        ConfigError: a name that torch does not know.
        Fatal: a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"there is no device {name!r}", remedy="set model.device to auto, cpu, cuda or cuda:1"
        ) from error
    if device.type == "cuda":
        visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= visible:
            raise Fatal(
                f"device {name} is configured but {visible or 'no'} "
                f"GPU{'s are' if visible > 1 else ' is'} visible",
                stage="load",
                remedy="set model.device=cpu" if not visible else "set model.device=cuda",
            )
    return device


def check_device(config: PlacementConfig, device: torch.device) -> None:
    """Refuse, before any weight is read, what this device can not do.

    Raises:
        ConfigError: CUDA graphs without CUDA, or a precision the GPU does not have.
        Fatal: less device memory than the preset is made for, or nothing to compile with.
    """
    on_gpu = device.type == "cuda"
    if config.cuda_graphs and not on_gpu:
        raise ConfigError(
            f"cuda_graphs is on, but the device is {device}", remedy="set model.cuda_graphs=false"
        )
    # Emulated bfloat16 counts as support unless it is left out, and is slower than float32.
    if (
        on_gpu
        and config.dtype == "bfloat16"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise ConfigError(
            "this GPU has no bfloat16 arithmetic", remedy="set model.dtype=float16 or float32"
        )
    if config.compile != "none":
        _check_compiler(on_gpu=on_gpu)
    if on_gpu:
        check_memory(torch.cuda.get_device_properties(device).total_memory, config)


def check_memory(total_bytes: int, config: PlacementConfig) -> None:
    """Raise `Fatal` when a GPU of this size is smaller than the configuration's `memory_gb`.

    The total is compared and not what is free: a replica that takes a dead one's place may start
    while the old memory is still being given back.
    """
    if total_bytes < config.memory_gb * GIGABYTE:
        raise Fatal(
            f"{config.system}/{config.preset} is made for {config.memory_gb:g} GB of device "
            f"memory, this GPU has {total_bytes / GIGABYTE:.1f} GB",
            stage="load",
            remedy="take a larger GPU, or set model.memory_gb=0 to try with a smaller batch_size",
        )


def place(
    config: PlacementConfig,
    device: torch.device,
    networks: Networks,
    *,
    backend: Backend = "inductor",
) -> None:
    """Put the models on the device in evaluation mode, laid out and compiled as configured.

    Parameters keep their names and precision.

    Args:
        config: with the switches.
        device: where to.
        networks: changed in place.
        backend: of the compiler: what turns captured graphs into functions.
    """
    for model in networks.models:
        model.eval().to(device)
    wanted = config.channels_last
    if wanted == "always" or (wanted == "auto" and device.type == "cuda"):
        for module in networks.convolutions:
            # torch's overloads leave this form out.
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if config.compile == "none":
        return
    mode = _MODES[config.compile, config.cuda_graphs]
    for module in networks.compiled:
        compile_forward(module, mode=mode, graphs=config.cuda_graphs, backend=backend)


def compile_forward(
    module: nn.Module,
    *,
    mode: str | None = None,
    graphs: bool = False,
    backend: Backend = "inductor",
) -> None:
    """Replace a module's `forward` by its compiled form.

    Args:
        module: changed in place; its state dict keeps its names.
        mode: of torch's compiler; None for its default.
        graphs: the mode records CUDA graphs, whose results the next call overwrites: they are
            copied on the way out, what a reference pass has written included.
        backend: see `place`.
    """
    compiled: Callable[..., Any] = torch.compile(module.forward, mode=mode, backend=backend)

    def replay(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        result = tree_map_only(Tensor, Tensor.clone, compiled(*args, **kwargs))
        writer = (kwargs.get("cross_attention_kwargs") or {}).get(ARGUMENT)
        if isinstance(writer, ReferenceWriter):
            writer.layers.update({name: x.clone() for name, x in writer.layers.items()})
        return result

    module.forward = replay if graphs else compiled


@contextmanager
def tf32(*, allowed: bool) -> Iterator[None]:
    """Whether float32 products may run on TF32 units (ten bits of mantissa) inside the block.

    The settings are those of the process: callers hold the device's lock. No effect without CUDA.
    """
    flags: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = allowed
    try:
        yield
    finally:
        for flag, was_allowed in zip(flags, before, strict=True):
            flag.allow_tf32 = was_allowed


def codec_halves(codec: LatentCodec) -> tuple[nn.Module, ...]:
    """Encoder and decoder of an autoencoder, for compilation; a closed-form codec has none."""
    if isinstance(codec, AutoencoderKLCodec):
        return (codec.vae.encoder, codec.vae.decoder)
    return ()


def _check_compiler(*, on_gpu: bool) -> None:
    """Raise `Fatal` when torch's compiler would find no tool to generate code with."""
    if on_gpu and importlib.util.find_spec("triton") is None:
        raise Fatal(
            "model.compile needs triton, which this PyTorch build comes without",
            stage="load",
            remedy="install a CUDA build of PyTorch for Linux, or set model.compile=none",
        )
    compilers = (os.environ.get("CXX", ""), "g++", "clang++")
    if not any(name and shutil.which(name) for name in compilers):
        raise Fatal(
            "model.compile needs a C++ compiler, and none is on the PATH",
            stage="load",
            remedy="install g++ or clang++, or set model.compile=none",
        )
