"""Numbers and folder of a training of the micro `crm` system, see `crm_recipe`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from geco_core.checkpoints.legacy import load_tensors
from geco_core.config import load as config_load
from geco_core.config.crm import DdimConfig
from geco_core.config.crm_system import CrmConfig
from geco_core.diffusion.codec import PatchCodec
from geco_core.multiview.crm import CrmDiffusion, CrmFrames
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.training.cache import Progress
from geco_core.training.crm_examples import CrmCacheSpec, CrmExamples, ensure_crm_examples
from geco_core.training.crm_frames import CrmFramesTaskConfig
from geco_core.training.crm_reconstructor import CrmTaskConfig, neutral_heads
from geco_core.training.crm_render_task import CrmRenderTaskConfig
from geco_core.training.loop import LoopConfig


@dataclass(frozen=True)
class CrmRecipeConfig:
    """Everything `geco train-micro crm` reads.

    `sampler` draws both stages' samples in evaluations and in the stage `samples`.
    """

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
    sampler: DdimConfig = field(
        default_factory=lambda: DdimConfig(
            steps=8, guidance_scale=1.0, spacing="trailing", last_alpha="one"
        )
    )
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
        """With the weights of the stages `views` and `ccm` and the recipe's sampler."""
        model = self.new_diffusion(train_examples)
        sampler = self.recipe.sampler
        model.config = replace(model.config, views_sampler=sampler, ccm_sampler=sampler)
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
