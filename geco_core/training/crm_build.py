"""From a configuration and a training set to a trainer of one of CRM's networks.

What a training writes is used by `geco generate` as it is: the diffusion stages write names of
`CrmDiffusion` with the encoders, for `model.weights.multiview`; the reconstructor its own, for
`model.weights.reconstructor`.

Legend: S codec pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geco_core.config.crm_system import CrmConfig
from geco_core.config.load import to_dict
from geco_core.config.train import CrmTrainingConfig, InitConfig
from geco_core.distill.build import HOW, Built, loop_settings
from geco_core.distill.world import World
from geco_core.evaluate.lpips import load_perceptual
from geco_core.render.registry import get_rasterizer
from geco_core.systems.device import device_named
from geco_core.training.crm_diffusion_trainer import CrmDiffusionTrainer
from geco_core.training.crm_folder import CrmFolder
from geco_core.training.crm_frame_rows import FrameRows
from geco_core.training.crm_reconstructor_trainer import CrmReconstructorTrainer
from geco_core.training.crm_render_rows import RenderRows
from geco_core.training.crm_start import (
    ENCODERS,
    DiffusionStart,
    check_start,
    fit_codec,
    model_config,
    start_diffusion,
    start_reconstructor,
)
from geco_core.training.prompts import prompt_reader

# Objects whose pictures a patch codec is fitted to where the encoders are not given.
CODEC_OBJECTS = 64
# How rows are read, which changes nothing of them.
_READING = ("threads", "ahead", "max_side")


def build_crm_training(
    config: CrmTrainingConfig, folder: CrmFolder, world: World, init: InitConfig
) -> Built:
    """A training ready to be run.

    Args:
        config: which, and how.
        folder: what is trained on.
        world: the processes that train together.
        init: the same as `config.init`, its files local.

    Raises:
        ConfigError: settings, sizes or data that do not fit together.
        Fatal: weights or objects that can not be read.
    """
    if config.training == "reconstructor":
        return _reconstructor(config, folder, world, init)
    return _diffusion(config, folder, world, init)


def pinned_training(config: CrmTrainingConfig) -> dict[str, Any]:
    """The part of the configuration that decides what a training makes, as plain data.

    How it is run (processes, devices, checkpoints, accumulation), where the data lie, and which
    weights it starts from do not enter; of the last two the digests are recorded.
    """
    sizes, plain = model_config(config), to_dict(config)
    diffusion = config.training != "reconstructor"
    model: dict[str, Any] = {"reconstructor": to_dict(sizes.reconstructor)}
    if diffusion:
        stage = getattr(sizes.diffusion, config.training)
        model = {"encoders": to_dict(sizes.diffusion.encoders), config.training: to_dict(stage)}
    losses = "loss" if diffusion else "render"
    return {
        "stage": config.stage,
        "seed": config.seed,
        "model": model,
        losses: plain[losses],
        "updates": {k: v for k, v in plain["updates"].items() if k not in HOW},
        "examples": {k: v for k, v in plain["examples"].items() if k not in _READING},
    }


def _diffusion(
    config: CrmTrainingConfig, folder: CrmFolder, world: World, init: InitConfig
) -> Built:
    sizes = model_config(config)
    start = start_diffusion(config, init)
    network, encoders = start.network, start.encoders
    prompt = prompt_reader(config.examples.tokenizer, encoders.config)
    rows = FrameRows(folder, network.config, encoders.config, config.examples, config.seed, prompt)
    if not start.fitted:
        fit_codec(encoders, _codec_pictures(sizes, folder, config))
    device = device_named(sizes.device)
    network.to(device)
    encoders.to(device)
    if config.train.gradient_checkpointing:
        network.unet.enable_gradient_checkpointing()
    trainer = CrmDiffusionTrainer(
        network, encoders, rows, config.updates, config.loss, config.examples, config.seed, world
    )
    sampler = getattr(sizes.diffusion, f"{config.training}_sampler")
    return Built(
        trainer,
        loop_settings(config.train, config.updates.optimise(config.seed), world),
        config.seed,
        device,
        (lambda: trainer.look(config.train.sample_objects, sampler))
        if config.train.sample_every
        else None,
        lambda: _whole(config.training, trainer, start),
        start.licences,
        start.init,
    )


def _whole(stage: str, trainer: CrmDiffusionTrainer, start: DiffusionStart) -> dict[str, Tensor]:
    """Encoders, the trained stage, and what was given of the other one."""
    encoders = start.encoders.state_dict()
    return {
        **start.rest,
        **{f"{ENCODERS}{name}": value for name, value in encoders.items()},
        **{f"{stage}.{name}": value for name, value in trainer.weights().items()},
    }


def _codec_pictures(sizes: CrmConfig, folder: CrmFolder, config: CrmTrainingConfig) -> Tensor:
    """Views and coordinate maps [M, 3, S, S] in [0, 1] of the first objects.

    Both stages fit to the same pictures, so that their codecs are the same.
    """
    diffusion = sizes.diffusion
    rows = FrameRows(
        folder, diffusion.ccm, diffusion.encoders, config.examples, config.seed, lambda _: ()
    )
    count = min(CODEC_OBJECTS, len(rows))
    made = [rows.plain(row, heldout=False) for row in range(count)]
    shown = [row.shown for row in made if row.shown is not None]
    return (torch.cat([*shown, *(row.targets for row in made)]) + 1.0) / 2.0


def _reconstructor(
    config: CrmTrainingConfig, folder: CrmFolder, world: World, init: InitConfig
) -> Built:
    check_start(config)
    start = start_reconstructor(config, init)
    sizes, render = model_config(config), config.render
    device = device_named(sizes.device)
    rows = RenderRows(
        folder,
        sizes.reconstructor.unet.plane_size,
        render.render_size,
        render.views_per_step,
        config.examples.content_ratio,
        config.seed,
    )
    model = start.model.to(device)
    if config.train.gradient_checkpointing:
        model.unet.network.enable_gradient_checkpointing()
    trainer = CrmReconstructorTrainer(
        model,
        rows,
        config.updates,
        render,
        config.examples,
        config.seed,
        world,
        load_perceptual(render.perceptual_folder).to(device),
        get_rasterizer("auto", device),
    )
    return Built(
        trainer,
        loop_settings(config.train, config.updates.optimise(config.seed), world),
        config.seed,
        device,
        (lambda: trainer.look(config.train.sample_objects)) if config.train.sample_every else None,
        trainer.weights,
        start.licences,
        start.init,
    )
