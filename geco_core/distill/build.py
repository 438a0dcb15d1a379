"""From a configuration, a teacher and data to a trainer, and from a trainer to weights.

What is distilled inherits the licences of the teacher and of the weights it starts from; a teacher
whose licence restricts that is refused until the configuration says that it was read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from geco_core.checkpoints.licences import check_distillable
from geco_core.checkpoints.origin import ORIGIN_KEY
from geco_core.checkpoints.safe import Weights, load_into, load_weights
from geco_core.config.distill import DistillConfig, TrainConfig
from geco_core.config.load import to_dict
from geco_core.distill.loop import LoopSettings
from geco_core.distill.networks import sibling, stage1_networks
from geco_core.distill.optimise import OptimiseConfig
from geco_core.distill.resume import Trainer
from geco_core.distill.samples import stage1_sheet, stage2_sheet
from geco_core.distill.stage1 import Stage1
from geco_core.distill.stage1_trainer import Stage1Data, Stage1Trainer
from geco_core.distill.stage2 import Stage2
from geco_core.distill.stage2_trainer import Stage2Data, Stage2Trainer
from geco_core.distill.world import World
from geco_core.errors import ConfigError
from geco_core.evaluate.lpips import load_perceptual
from geco_core.evaluate.perceptual import Perceptual
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.instantnerf import InstantNeRF
from geco_core.render.registry import get_rasterizer

StageName = Literal["stage1", "stage2"]
UNET = "unet."
GENERATOR, RECONSTRUCTOR = "generator", "reconstructor"
# Training keeps float32 weights and chooses the precision of its passes by `autocast`.
TEACHER_OVERRIDES = ("dtype=float32", "compile=none", "cuda_graphs=false", "memory_gb=0")
# What of a chain's configuration decides what it makes; the rest says where and how fast.
RESULTS = ("multiview", "sampler", "reconstructor", "extraction", "weights", "tf32")
# Settings of an optimisation that change how a batch is computed, not what comes out.
HOW = ("accumulation",)


class TeacherSystem(Protocol):
    """The loaded chain, see `geco_core.systems.instantmesh`."""

    @property
    def models(self) -> tuple[Zero123Plus, InstantMesh | InstantNeRF]:
        """The multi-view model and the reconstructor."""
        ...

    def provenance(self) -> Mapping[str, Any]:
        """At least `weights_digest` and `licences`."""
        ...


@dataclass(frozen=True)
class Built:
    """A stage ready to be trained.

    Attributes:
        trainer: see `resume.Trainer`.
        settings: of the loop.
        seed: of the stage.
        device: of the networks.
        sheet: makes a sample sheet; None where they are switched off.
        averages: the averaged weights by their names in the exported file.
        licences: of the teacher and of the weights it starts from.
        init: name -> sha256 of the weights it starts from.
    """

    trainer: Trainer
    settings: LoopSettings
    seed: int
    device: torch.device
    sheet: Callable[[], np.ndarray] | None
    averages: Callable[[], dict[str, Tensor]]
    licences: tuple[str, ...]
    init: Mapping[str, str]


def build_stage1(
    config: DistillConfig,
    teacher: TeacherSystem,
    data: Stage1Data,
    world: World,
    init: Mapping[str, str],
) -> Built:
    """Stage I.

    Args:
        config: of the distillation.
        teacher: loaded with `TEACHER_OVERRIDES`; its U-Net stays frozen.
        data: conditions, and teacher samples where `regression_weight` is set.
        world: the processes that train together.
        init: `generator`: a local safetensors file the generator starts from.

    Raises:
        ConfigError: a licence that was not acknowledged, unknown names in `init`, or more processes
            than rows of a batch.
        Fatal: weights that can not be read or do not fit.
    """
    model, _ = teacher.models
    networks = stage1_networks(
        model,
        student_rank=config.train.student_rank,
        checkpointing=config.train.gradient_checkpointing,
    )
    starts = _start(init, {GENERATOR: (networks.generator.unet, UNET)})
    licences = _licences(config, teacher, starts)
    optimise = replace(config.stage1_train, seed=config.seed + config.stage1_train.seed)
    trainer = Stage1Trainer(Stage1(networks, config.stage1), data, optimise, world)
    return Built(
        trainer,
        loop_settings(config.train, optimise, world),
        optimise.seed,
        model.device,
        (lambda: stage1_sheet(trainer, data, config.train.sample_objects))
        if config.train.sample_every
        else None,
        lambda: _named(trainer.ema.shadow, UNET),
        licences,
        {name: weights.sha256 for name, weights in starts.items()},
    )


def build_stage2(
    config: DistillConfig,
    teacher: TeacherSystem,
    data: Stage2Data,
    world: World,
    init: Mapping[str, str],
    perceptual: Perceptual | None = None,
) -> Built:
    """Stage II.

    Args:
        config: of the distillation.
        teacher: loaded with `TEACHER_OVERRIDES`; its reconstructor is trained in place.
        data: teacher targets.
        world: the processes that train together.
        init: `generator` and `reconstructor`: local safetensors files they start from; the
            teacher's own weights without them.
        perceptual: distance of renders; the configured one when None.

    Raises:
        ConfigError, Fatal: as `build_stage1`; also a reconstructor that makes no mesh.
    """
    model, reconstructor = teacher.models
    if not isinstance(reconstructor, InstantMesh):
        raise ConfigError(
            "Stage II trains a reconstructor with a surface, the teacher's makes a radiance field",
            remedy="choose a teacher with a mesh reconstructor",
        )
    generator = sibling(model)
    starts = _start(init, {GENERATOR: (generator.unet, UNET), RECONSTRUCTOR: (reconstructor, "")})
    licences = _licences(config, teacher, starts)
    if config.train.gradient_checkpointing and config.stage2.train_generator:
        generator.unet.enable_gradient_checkpointing()
    device = model.device
    features = perceptual or load_perceptual(config.stage2.perceptual_folder).to(device)
    stage2 = Stage2(
        generator, reconstructor, get_rasterizer("auto", device), features, config.stage2
    )
    optimise = replace(config.stage2_train, seed=config.seed + config.stage2_train.seed)
    trainer = Stage2Trainer(stage2, data, optimise, world)

    def averages() -> dict[str, Tensor]:
        emas = trainer.emas
        joint = _named(emas[GENERATOR].shadow, UNET) if GENERATOR in emas else {}
        return {**_named(emas[RECONSTRUCTOR].shadow, ""), **joint}

    return Built(
        trainer,
        loop_settings(config.train, optimise, world),
        optimise.seed,
        device,
        (lambda: stage2_sheet(trainer, data, config.train.sample_objects))
        if config.train.sample_every
        else None,
        averages,
        licences,
        {name: weights.sha256 for name, weights in starts.items()},
    )


def pinned(stage: StageName, config: DistillConfig) -> dict[str, Any]:
    """The part of the configuration that decides what a stage makes, as plain data.

    How it is run (processes, devices, checkpoints, accumulation) may change from one resume to the
    next.
    """
    train = to_dict(getattr(config, f"{stage}_train"))
    return {
        "stage": stage,
        "seed": config.seed,
        "teacher": {
            "system": config.teacher.system,
            "preset": config.teacher.preset,
            "model": {k: v for k, v in to_dict(config.teacher.model).items() if k in RESULTS},
        },
        "losses": to_dict(getattr(config, stage)),
        "train": {key: value for key, value in train.items() if key not in HOW},
        **({"student_rank": config.train.student_rank} if stage == "stage1" else {}),
    }


def export_weights(built: Built, path: Path, origin: Mapping[str, Any]) -> None:
    """Write the averaged weights as float32 safetensors.

    Args:
        built: trained.
        path: of the file.
        origin: plain data for the header, beside the licences.
    """
    tensors = {
        name: (value.float() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in built.averages().items()
    }
    # One metadata entry: safetensors writes several in no fixed order.
    content = {**origin, "licences": list(built.licences)}
    save_file(tensors, path, metadata={ORIGIN_KEY: json.dumps(content, sort_keys=True)})


def _start(
    init: Mapping[str, str], modules: Mapping[str, tuple[nn.Module, str]]
) -> dict[str, Weights]:
    """Load what a stage starts from. Of a file, the names that begin with the prefix are taken."""
    unknown = sorted(set(init) - set(modules))
    if unknown:
        raise ConfigError(
            f"a stage can not start from {unknown[0]!r} weights",
            remedy=f"it takes {' and '.join(sorted(modules))}",
        )
    loaded = {name: load_weights(path) for name, path in init.items()}
    for name, weights in loaded.items():
        module, prefix = modules[name]
        chosen = {
            key.removeprefix(prefix): tensor
            for key, tensor in weights.tensors.items()
            if key.startswith(prefix) and (prefix or not key.startswith(UNET))
        }
        load_into(module, replace(weights, tensors=chosen), f"the {name}")
    return loaded


def _licences(
    config: DistillConfig, teacher: TeacherSystem, starts: Mapping[str, Weights]
) -> tuple[str, ...]:
    inherited = {name for weights in starts.values() for name in weights.licences}
    licences: Sequence[str] = sorted({*teacher.provenance()["licences"], *inherited})
    check_distillable(licences, config.teacher.acknowledge_licences)
    return tuple(licences)


def loop_settings(train: TrainConfig, optimise: OptimiseConfig, world: World) -> LoopSettings:
    """When what happens in a training.

    Raises:
        ConfigError: more processes than rows of a batch.
    """
    if world.size > optimise.batch_size:
        raise ConfigError(
            f"{world.size} processes can not share a batch of {optimise.batch_size} rows",
            stage="train",
            remedy=f"set train.workers={optimise.batch_size}, or a larger batch_size",
        )
    return LoopSettings(
        steps=optimise.steps,
        batch_size=optimise.batch_size,
        checkpoint_every=train.checkpoint_every,
        log_every=train.log_every,
        sample_every=train.sample_every,
    )


def _named(shadow: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in shadow.items()}
