"""The recipe of the micro `instantmesh` pair.

Six stages, each resumable, each a pure function of seeds and the configuration:

    cache -> { multiview  |  reconstructor } -> teacher_views -> finetune -> noised -> export

`multiview` and `reconstructor` are independent and run as two processes of one thread each.
`multiview` reads clean condition channels at every timestep, which learns fastest. `finetune`
continues the reconstructor on a mixture of true views and that model's own samples (the teacher
chain's version of a Stage II). `noised` turns the multi-view model into what Zero123++ is: its
condition is noised along with the sample, so that one step from pure noise sees nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from geco_core.checkpoints.legacy import load_tensors
from geco_core.config import load as config_load
from geco_core.config.models import InstantMeshConfig
from geco_core.diffusion.codec import PatchCodec
from geco_core.multiview.generate import views_of_images
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.initialise import fourier_init
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.training.cache import CacheSpec, ExampleCache, Progress, ensure_cache
from geco_core.training.loop import LoopConfig, Report, train
from geco_core.training.multiview import MultiViewTask, MultiViewTaskConfig
from geco_core.training.reconstructor import ReconstructorTask, ReconstructorTaskConfig
from geco_core.training.stages import check_stage, in_parts, save_stage

# Stages of a wave run at once, each as a process of one thread.
WAVES = (
    ("cache",),
    ("multiview", "reconstructor"),
    ("teacher_views",),
    ("finetune",),
    ("noised",),
)
STAGES = tuple(stage for wave in WAVES for stage in wave)


@dataclass(frozen=True)
class RecipeConfig:
    """Everything `geco train-micro instantmesh` reads.

    `docs/lab` records what each number was tried against.
    """

    seed: int = 0
    examples: int = 12_000
    heldout_examples: int = 256
    codec_views: int = 600
    multiview: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=13_500, learning_rate=1.2e-3, decay_steps=5_000, ema_decay=0.9985
        )
    )
    multiview_task: MultiViewTaskConfig = field(default_factory=MultiViewTaskConfig)
    reconstructor: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=16_500, learning_rate=1.2e-3, decay_steps=11_500, ema_decay=0.9985
        )
    )
    reconstructor_task: ReconstructorTaskConfig = field(default_factory=ReconstructorTaskConfig)
    noised: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=4_500,
            learning_rate=8e-4,
            warmup_steps=50,
            decay_steps=2_450,
            ema_decay=0.998,
            evaluate_every=1_000,
        )
    )
    noised_task: MultiViewTaskConfig = field(
        default_factory=lambda: MultiViewTaskConfig(last_step_share=0.125)
    )
    teacher_rows: int = 1_600
    teacher_share: float = 0.5
    finetune: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=3_000,
            learning_rate=4e-4,
            warmup_steps=100,
            decay_steps=2_800,
            ema_decay=0.998,
            evaluate_every=1_000,
        )
    )
    finetune_task: ReconstructorTaskConfig = field(
        default_factory=lambda: ReconstructorTaskConfig(color_l1_weight=3.0, color_mse_weight=15.0)
    )


class Workspace:
    """The folder of one training run, and the models built the same way by every stage."""

    def __init__(self, folder: Path, recipe: RecipeConfig) -> None:
        self.folder = folder
        self.recipe = recipe
        preset = config_load.preset_path("instantmesh", "micro")
        self.config = config_load.load(InstantMeshConfig, preset)

    def caches(self, processes: int, progress: Progress) -> tuple[ExampleCache, ExampleCache]:
        """The train and held-out caches, built when missing."""
        train_spec = CacheSpec(split="train", examples=self.recipe.examples)
        heldout_spec = replace(train_spec, split="heldout", examples=self.recipe.heldout_examples)
        return (
            ensure_cache(self.folder / "cache" / "train", train_spec, processes, progress),
            ensure_cache(self.folder / "cache" / "heldout", heldout_spec, processes, progress),
        )

    def new_multiview(self, train_cache: ExampleCache) -> Zero123Plus:
        """A freshly initialised model with clean condition channels.

        Its codec is fitted to training views.
        """
        torch.manual_seed(self.recipe.seed)
        model = Zero123Plus(
            replace(self.config.multiview, noised_channels=False, condition_latent_gain=1.0)
        )
        rows = torch.arange(self.recipe.codec_views)
        images = train_cache.images("views", rows).flatten(0, 1)
        condition = train_cache.images("condition", rows)
        if isinstance(model.codec, PatchCodec):
            model.codec.fit(torch.cat([images, condition]))
        return model

    def noised_multiview(self) -> Zero123Plus:
        """The preset's model with the weights of `multiview`; its channels keep their scale."""
        model = Zero123Plus(self.config.multiview)
        model.load_state_dict(load_tensors(self.weights("multiview")))
        latent = self.config.multiview.codec.latent_channels
        with torch.no_grad():
            channels = model.unet.conv_in.weight[:, latent : 2 * latent]
            channels /= self.config.multiview.condition_latent_gain
        return model

    def new_reconstructor(self) -> InstantMesh:
        """A freshly initialised reconstructor with Fourier-initialised embeddings."""
        torch.manual_seed(self.recipe.seed + 1)
        model = InstantMesh(self.config.reconstructor)
        fourier_init(model, self.config.multiview.rig)
        # Points supervise neither deformation nor FlexiCubes weights: start both heads at neutral.
        for head in (model.decoder.net_deformation, model.decoder.net_weight):
            last = [m for m in head.modules() if isinstance(m, nn.Linear)][-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        return model

    def weights(self, stage: str) -> Path:
        """The finished weights of a stage (float32 EMA); where the file is, the stage is done."""
        return self.folder / stage / "weights.pt"


def run_stage(
    stage: str,
    space: Workspace,
    report: Report,
    evaluated: Report,
    progress: Progress,
    processes: int = 2,
) -> None:
    """Run one stage to its end; a finished stage returns at once.

    Raises `Fatal` on an unknown stage.
    """
    check_stage(stage, STAGES)
    if stage != "cache" and space.weights(stage).is_file():
        return
    train_cache, heldout_cache = space.caches(processes, progress)
    if stage == "cache":
        return
    runners: dict[str, Callable[[], dict[str, Tensor]]] = {
        "multiview": lambda: _multiview(
            space, "multiview", train_cache, heldout_cache, report, evaluated
        ),
        "noised": lambda: _multiview(
            space, "noised", train_cache, heldout_cache, report, evaluated
        ),
        "reconstructor": lambda: _reconstructor(
            space, train_cache, heldout_cache, report, evaluated
        ),
        "teacher_views": lambda: _teacher_views(space, train_cache, progress),
        "finetune": lambda: _finetune(space, train_cache, heldout_cache, report, evaluated),
    }
    save_stage(space.weights(stage), runners[stage]())


def _multiview(
    space: Workspace,
    stage: str,
    train_cache: ExampleCache,
    heldout_cache: ExampleCache,
    report: Report,
    evaluated: Report,
) -> dict[str, Tensor]:
    """The two stages of the multi-view model; their examples come in different orders."""
    recipe = space.recipe
    if stage == "noised":
        seed, loop, task_config = recipe.seed + 7, recipe.noised, recipe.noised_task
        model = space.noised_multiview()
    else:
        seed, loop, task_config = recipe.seed, recipe.multiview, recipe.multiview_task
        model = space.new_multiview(train_cache)
    task_config = replace(task_config, batch_size=loop.batch_size, seed=seed)
    task = MultiViewTask(model, train_cache, heldout_cache, task_config)
    return train(task, replace(loop, seed=seed), space.folder / stage, report, evaluated)


def _reconstructor(
    space: Workspace,
    train_cache: ExampleCache,
    heldout_cache: ExampleCache,
    report: Report,
    evaluated: Report,
) -> dict[str, Tensor]:
    recipe = space.recipe
    task_config = replace(
        recipe.reconstructor_task, batch_size=recipe.reconstructor.batch_size, seed=recipe.seed
    )
    rig = space.config.multiview.rig
    task = ReconstructorTask(
        space.new_reconstructor(), rig, train_cache, heldout_cache, task_config
    )
    loop = replace(recipe.reconstructor, seed=recipe.seed)
    return train(task, loop, space.folder / "reconstructor", report, evaluated)


def _teacher_views(
    space: Workspace, train_cache: ExampleCache, progress: Progress
) -> dict[str, Tensor]:
    """Sample the trained teacher for the first training rows; resumable per 64 rows."""
    model = space.new_multiview(train_cache)
    model.load_state_dict(load_tensors(space.weights("multiview")))
    model.eval()

    def make(rows: Tensor) -> np.ndarray:
        conditions = train_cache.images("condition", rows)
        views = views_of_images(model, conditions, rows.tolist(), space.config.sampler)
        return views.clamp(0, 1).mul(255).round().byte().movedim(-3, -1).numpy()

    folder, count = space.folder / "teacher_views", space.recipe.teacher_rows
    return {"views": torch.from_numpy(in_parts(folder, count, make, progress))}


def _finetune(
    space: Workspace,
    train_cache: ExampleCache,
    heldout_cache: ExampleCache,
    report: Report,
    evaluated: Report,
) -> dict[str, Tensor]:
    recipe = space.recipe
    model = space.new_reconstructor()
    model.load_state_dict(load_tensors(space.weights("reconstructor")))
    views = load_tensors(space.weights("teacher_views"))["views"]
    task_config = replace(
        recipe.finetune_task, batch_size=recipe.finetune.batch_size, seed=recipe.seed + 2
    )
    task = ReconstructorTask(
        model,
        space.config.multiview.rig,
        train_cache,
        heldout_cache,
        task_config,
        views,
        recipe.teacher_share,
    )
    return train(
        task,
        replace(recipe.finetune, seed=recipe.seed + 2),
        space.folder / "finetune",
        report,
        evaluated,
    )
