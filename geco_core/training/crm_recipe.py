"""The recipe of the micro `crm` system.

Stages, each resumable, each a pure function of seeds and the configuration:

    cache -> { views | ccm | reconstructor } -> samples -> finetune -> render -> export

The two diffusion stages and the reconstructor are independent: coordinate maps are learnt from true
views, the reconstructor from true views and maps. `finetune` continues the reconstructor on a
mixture of true inputs and what the two stages made of training conditions; `render` goes on with
renders of its meshes as the published training does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from geco_core.checkpoints.legacy import load_tensors
from geco_core.config import load as config_load
from geco_core.config.crm_system import CrmConfig
from geco_core.diffusion.codec import PatchCodec
from geco_core.errors import Fatal
from geco_core.multiview.crm import CrmDiffusion, CrmFrames
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.training.cache import Progress
from geco_core.training.crm_examples import CrmCacheSpec, CrmExamples, ensure_crm_examples
from geco_core.training.crm_frames import CrmFramesTask, CrmFramesTaskConfig, Stage
from geco_core.training.crm_reconstructor import (
    CrmReconstructorTask,
    CrmTaskConfig,
    neutral_heads,
)
from geco_core.training.crm_render_task import CrmRenderTask, CrmRenderTaskConfig
from geco_core.training.crm_samples import sample_examples
from geco_core.training.loop import LoopConfig, Report, train

# Stages of a wave run at once, each as a process of one thread.
WAVES = (
    ("cache",),
    ("views", "reconstructor"),
    ("ccm",),
    ("samples",),
    ("finetune",),
    ("render",),
)
STAGES = tuple(stage for wave in WAVES for stage in wave)


@dataclass(frozen=True)
class CrmRecipeConfig:
    """Everything `geco train-micro crm` reads."""

    seed: int = 0
    examples: int = 12_000
    heldout_examples: int = 256
    codec_rows: int = 300
    views: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=7_000, learning_rate=1.2e-3, decay_steps=4_000, ema_decay=0.9985
        )
    )
    views_task: CrmFramesTaskConfig = field(default_factory=CrmFramesTaskConfig)
    ccm: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=4_500, learning_rate=1.2e-3, decay_steps=3_000, ema_decay=0.9985
        )
    )
    ccm_task: CrmFramesTaskConfig = field(default_factory=CrmFramesTaskConfig)
    reconstructor: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=3_600,
            learning_rate=1.5e-3,
            decay_steps=2_800,
            ema_decay=0.998,
            evaluate_every=600,
        )
    )
    reconstructor_task: CrmTaskConfig = field(default_factory=CrmTaskConfig)
    sample_rows: int = 1_200
    heldout_samples: int = 48
    finetune: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=800,
            learning_rate=4e-4,
            warmup_steps=50,
            decay_steps=700,
            ema_decay=0.998,
            evaluate_every=400,
        )
    )
    finetune_task: CrmTaskConfig = field(default_factory=CrmTaskConfig)
    render: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=500,
            batch_size=4,
            learning_rate=3e-4,
            warmup_steps=20,
            decay_steps=450,
            ema_decay=0.99,
            evaluate_every=250,
        )
    )
    render_task: CrmRenderTaskConfig = field(default_factory=CrmRenderTaskConfig)


class CrmWorkspace:
    """The folder of one training run, and the models built the same way by every stage."""

    def __init__(self, folder: Path, recipe: CrmRecipeConfig) -> None:
        self.folder = folder
        self.recipe = recipe
        preset = config_load.preset_path("crm", "micro")
        self.config = config_load.load(CrmConfig, preset)

    def caches(self, processes: int, progress: Progress) -> tuple[CrmExamples, CrmExamples]:
        """The train and held-out examples, made when missing."""
        diffusion = self.config.diffusion
        spec = CrmCacheSpec(
            split="train",
            examples=self.recipe.examples,
            view_size=diffusion.encoders.image_size,
            condition_size=diffusion.encoders.image_size,
            foreground_ratio=diffusion.foreground_ratio,
        )
        heldout = replace(spec, split="heldout", examples=self.recipe.heldout_examples)
        return (
            ensure_crm_examples(self.folder / "cache" / "train", spec, processes, progress),
            ensure_crm_examples(self.folder / "cache" / "heldout", heldout, processes, progress),
        )

    def new_diffusion(self, train_examples: CrmExamples) -> CrmDiffusion:
        """Freshly initialised, its codec fitted to training views and coordinate maps."""
        torch.manual_seed(self.recipe.seed)
        model = CrmDiffusion(self.config.diffusion)
        rows = torch.arange(min(self.recipe.codec_rows, len(train_examples)))
        codec = model.encoders.codec
        if isinstance(codec, PatchCodec):
            views, maps = train_examples.views(rows), train_examples.ccms(rows)
            codec.fit(torch.cat([views.flatten(0, 1), maps.flatten(0, 1)]))
        return model

    def trained_diffusion(self, train_examples: CrmExamples) -> CrmDiffusion:
        """With the weights of the stages `views` and `ccm`."""
        model = self.new_diffusion(train_examples)
        model.views.load_state_dict(load_tensors(self.weights("views")))
        model.ccm.load_state_dict(load_tensors(self.weights("ccm")))
        return model.eval()

    def new_reconstructor(self) -> CrmReconstructor:
        """Freshly initialised, its first shape a ball."""
        torch.manual_seed(self.recipe.seed + 1)
        model = CrmReconstructor(self.config.reconstructor)
        neutral_heads(model)
        return model

    def trained_reconstructor(self, stage: str) -> CrmReconstructor:
        """With the weights that a stage left."""
        model = self.new_reconstructor()
        model.load_state_dict(load_tensors(self.weights(stage)))
        return model

    def samples(self, split: str) -> CrmFrames:
        """What the stage `samples` made of a split."""
        made = load_tensors(self.weights("samples"))
        return CrmFrames(made[f"{split}_views"], made[f"{split}_ccms"])

    def weights(self, stage: str) -> Path:
        """The finished weights of a stage (float32 averages); where the file is, it is done."""
        return self.folder / stage / "weights.pt"


def run_crm_stage(
    stage: str,
    space: CrmWorkspace,
    report: Report,
    evaluated: Report,
    progress: Progress,
    processes: int = 2,
) -> None:
    """Run one stage to its end; a finished stage returns at once.

    Raises `Fatal` on an unknown stage.
    """
    if stage not in STAGES:
        raise Fatal(f"unknown training stage {stage!r}", remedy=f"one of {', '.join(STAGES)}")
    if stage != "cache" and space.weights(stage).is_file():
        return
    train_examples, heldout = space.caches(processes, progress)
    if stage == "cache":
        return
    runners: dict[str, Callable[[], dict[str, Tensor]]] = {
        "views": lambda: _frames(space, "views", train_examples, heldout, report, evaluated),
        "ccm": lambda: _frames(space, "ccm", train_examples, heldout, report, evaluated),
        "reconstructor": lambda: _reconstructor(space, train_examples, heldout, report, evaluated),
        "samples": lambda: _samples(space, train_examples, heldout, progress),
        "finetune": lambda: _finetune(space, train_examples, heldout, report, evaluated),
        "render": lambda: _render(space, train_examples, heldout, report, evaluated),
    }
    torch.save(runners[stage](), space.weights(stage))


def _frames(
    space: CrmWorkspace,
    stage: Stage,
    train_examples: CrmExamples,
    heldout: CrmExamples,
    report: Report,
    evaluated: Report,
) -> dict[str, Tensor]:
    recipe, model = space.recipe, space.new_diffusion(train_examples)
    loop: LoopConfig = getattr(recipe, stage)
    config: CrmFramesTaskConfig = getattr(recipe, f"{stage}_task")
    task = CrmFramesTask(
        stage,
        getattr(model, stage),
        model.encoders,
        train_examples,
        heldout,
        replace(config, batch_size=loop.batch_size, seed=recipe.seed),
        getattr(space.config.diffusion, f"{stage}_sampler"),
    )
    return train(task, replace(loop, seed=recipe.seed), space.folder / stage, report, evaluated)


def _reconstructor(
    space: CrmWorkspace,
    train_examples: CrmExamples,
    heldout: CrmExamples,
    report: Report,
    evaluated: Report,
) -> dict[str, Tensor]:
    recipe = space.recipe
    config = replace(
        recipe.reconstructor_task, batch_size=recipe.reconstructor.batch_size, seed=recipe.seed
    )
    task = CrmReconstructorTask(space.new_reconstructor(), train_examples, heldout, config)
    loop = replace(recipe.reconstructor, seed=recipe.seed)
    return train(task, loop, space.folder / "reconstructor", report, evaluated)


def _samples(
    space: CrmWorkspace, train_examples: CrmExamples, heldout: CrmExamples, progress: Progress
) -> dict[str, Tensor]:
    """`SPLIT_views` and `SPLIT_ccms`, see `CrmFrames`."""
    model, recipe = space.trained_diffusion(train_examples), space.recipe
    made: dict[str, Tensor] = {}
    for split, examples, wanted in (
        ("train", train_examples, recipe.sample_rows),
        ("heldout", heldout, recipe.heldout_samples),
    ):
        count, folder = min(wanted, len(examples)), space.folder / "samples" / split
        frames = sample_examples(model, examples, count, folder, progress)
        made |= {f"{split}_views": frames.views, f"{split}_ccms": frames.ccms}
    return made


def _finetune(
    space: CrmWorkspace,
    train_examples: CrmExamples,
    heldout: CrmExamples,
    report: Report,
    evaluated: Report,
) -> dict[str, Tensor]:
    seed, loop = space.recipe.seed + 2, space.recipe.finetune
    config = replace(space.recipe.finetune_task, batch_size=loop.batch_size, seed=seed)
    task = CrmReconstructorTask(
        space.trained_reconstructor("reconstructor"),
        train_examples,
        heldout,
        config,
        space.samples("train"),
    )
    return train(task, replace(loop, seed=seed), space.folder / "finetune", report, evaluated)


def _render(
    space: CrmWorkspace,
    train_examples: CrmExamples,
    heldout: CrmExamples,
    report: Report,
    evaluated: Report,
) -> dict[str, Tensor]:
    seed, loop = space.recipe.seed + 3, space.recipe.render
    task = CrmRenderTask(
        space.trained_reconstructor("finetune"),
        train_examples,
        heldout,
        replace(space.recipe.render_task, batch_size=loop.batch_size, seed=seed),
        space.samples("train"),
        space.samples("heldout"),
    )
    return train(task, replace(loop, seed=seed), space.folder / "render", report, evaluated)
