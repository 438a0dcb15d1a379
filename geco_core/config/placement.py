"""Configuration of where and how the networks of a system run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PlacementConfig:
    """What every system of networks is told of its device.

    `device` "auto" takes a GPU where there is one. `dtype` is the precision of the networks
    (autocast, and the weights of the diffusion models); "auto" is float16 on a GPU and float32
    elsewhere. Point heads and extraction always work in float32. `geco_core.systems.device` says
    what the switches below it do and refuses them where they can not work.

    Attributes:
        system: name of the system.
        preset: name of its preset.
        compile: torch compile of the large networks (U-Nets, autoencoder, reconstructor);
            "max-autotune" searches kernels for minutes at the first call.
        cuda_graphs: records what is compiled as CUDA graphs.
        channels_last: memory layout of the convolutional networks; "auto" means on a GPU.
        tf32: lets float32 networks use TF32 units on a GPU; point heads and extraction never do.
        memory_gb: device memory that the preset is made for at its batch size, in units of 1e9
            bytes; a smaller GPU is refused at load. 0 checks nothing.
        batch_size: items per call of the system.
    """

    system: str = ""
    preset: str = "micro"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    compile: Literal["none", "default", "max-autotune"] = "none"
    cuda_graphs: bool = False
    channels_last: Literal["auto", "always", "never"] = "auto"
    tf32: bool = False
    memory_gb: float = 0.0
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.cuda_graphs and self.compile == "none":
            raise ValueError("cuda_graphs records what is compiled: it needs compile=default")
        if self.memory_gb < 0:
            raise ValueError(f"memory_gb must not be negative, got {self.memory_gb}")
