"""CRM's trainings at a size where a step takes milliseconds, and objects for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from geco_core.config.distill import TrainConfig
from geco_core.config.load import to_dict
from geco_core.config.models import CodecConfig
from geco_core.config.train import (
    CrmTrainingConfig,
    ExamplesConfig,
    ModelConfig,
    UpdatesConfig,
)
from geco_core.errors import BadItem, Reason
from geco_core.training.crm_folder_writer import WriterConfig, write_objects
from geco_core.training.crm_render import CrmRenderConfig
from geco_core.training.rendered import RenderCameras
from tests.geco_core.multiview.crm_models import CRM
from tests.geco_core.reconstruct.crm_models import TINY

PATCH = CodecConfig(
    kind="patch", latent_channels=4, patch_size=4, scaling_factor=1.0,
    latent_shift=0.0, latent_scale=1.0, image_scale=1.0,
)  # fmt: skip
PATCH_CRM = replace(CRM, encoders=replace(CRM.encoders, codec=PATCH))
RENDERS, RENDER_SIZE, SIDE = 3, 16, 32


class Memory(dict[str, bytes]):
    """`Files` in memory."""

    def read(self, name: str, max_bytes: int) -> bytes:
        data = self[name]
        if len(data) > max_bytes:
            raise BadItem("too large", reason=Reason.TOO_MANY_BYTES)
        return data

    def names(self) -> Iterable[str]:
        return list(self)


def objects(count: int = 6) -> Memory:
    """Procedural objects in memory."""
    files = Memory()
    write_objects(files.__setitem__, writer(count))
    return files


def writer(count: int) -> WriterConfig:
    return WriterConfig(
        objects=count, size=SIDE, render_size=RENDER_SIZE, cameras=RenderCameras(views=RENDERS)
    )


def written(folder: Path, count: int = 6) -> str:
    """The same on disk; returns the folder."""
    for name, data in objects(count).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(folder)


def tiny_training(training: Any, data: str = "", **updates: Any) -> CrmTrainingConfig:
    """Six updates of four objects in two pieces."""
    numbers = {"steps": 6, "batch_size": 4, "accumulation": 2, "rate": 1e-3, **updates}
    return CrmTrainingConfig(
        training=training,
        data=data,
        model=ModelConfig(
            overrides={
                "diffusion": to_dict(PATCH_CRM),
                "reconstructor": to_dict(TINY),
                "device": "cpu",
            }
        ),
        updates=UpdatesConfig(**numbers),
        render=CrmRenderConfig(render_size=RENDER_SIZE, views_per_step=2, sphere_points=64),
        examples=ExamplesConfig(heldout=0, threads=0),
        train=TrainConfig(
            engine="inline", checkpoint_every=2, log_every=2, sample_every=3, sample_objects=2
        ),
    )
