"""Configuration of `geco train`: one of CRM's three trainings, at any size.

The published recipes (arXiv 2403.05034) are the presets `train-crm-*`; the defaults here are those
of stage 1, but for its precision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from geco_core.config.distill import TrainConfig
from geco_core.config.run import ClusterConfig, S3Config
from geco_core.distill.optimise import OptimiseConfig
from geco_core.training.crm_render import CrmRenderConfig
from geco_core.training.frames import FrameLossConfig

CrmTraining = Literal["views", "ccm", "reconstructor"]
VIEWS = 6


@dataclass(frozen=True)
class ModelConfig:
    """The system whose network is trained.

    Attributes:
        system, preset: name it, as in `geco generate`.
        overrides: settings on the preset, as `model.*` in `geco generate`.
    """

    system: str = "crm"
    preset: str = "micro"
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InitConfig:
    """Weights a training starts from: paths, `s3://`, or hub references. Empty: random ones.

    Attributes:
        network: a published diffusion file (ImageDream or CRM) for the stage's network, and for the
            encoders unless `multiview` gives them. A first layer with too few input channels is
            widened as stage 2 of CRM was: half the weights, zeros for the new channels.
        multiview: a file of ours: its encoders, its network unless `network` gives it, and whatever
            else it holds, which goes into the result unchanged.
        reconstructor: CRM.pth, a conversion of it, or a file of ours.
        network_sha256, multiview_sha256, reconstructor_sha256: pin them.
        licences: SPDX identifiers the files are under, where they do not say so themselves.
    """

    network: str = ""
    multiview: str = ""
    reconstructor: str = ""
    network_sha256: str = ""
    multiview_sha256: str = ""
    reconstructor_sha256: str = ""
    licences: tuple[str, ...] = ()


@dataclass(frozen=True)
class UpdatesConfig:
    """Numbers of an optimisation with AdamW; the defaults are those of CRM's diffusion stages.

    Attributes:
        steps: updates.
        batch_size: objects of the global batch, over all processes and pieces.
        accumulation: pieces a process cuts its rows into, to save memory.
        rate: learning rate.
        warmup_steps, decay_steps: linear rise at the start and fall at the end; 0 has none.
        betas, weight_decay: of AdamW.
        clip_norm: of the gradients; None does not clip.
        ema_decay: of the weights that are shown and exported; None keeps no average.
        precision: of the networks' passes. Weights and optimiser stay float32; float16 scales the
            loss.
    """

    steps: int = 10_000
    batch_size: int = 1536
    accumulation: int = 1
    rate: float = 5e-5
    warmup_steps: int = 0
    decay_steps: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip_norm: float | None = None
    ema_decay: float | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm must be positive or null, got {self.clip_norm}")
        if self.ema_decay is not None and not 0.0 < self.ema_decay < 1.0:
            raise ValueError(f"ema_decay must be within 0 and 1 or null, got {self.ema_decay}")

    def optimise(self, seed: int) -> OptimiseConfig:
        """The same numbers for `geco_core.distill.optimise`, whose precision is not used."""
        return OptimiseConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            warmup_steps=self.warmup_steps,
            decay_steps=self.decay_steps,
            betas=self.betas,
            weight_decay=self.weight_decay,
            clip_norm=float("inf") if self.clip_norm is None else self.clip_norm,
            seed=seed,
        )


@dataclass(frozen=True)
class ExamplesConfig:
    """How training rows are made of a folder in CRM's layout, see `geco_core.training.crm_folder`.

    The defaults are stage 1's; those of stage 2 are in the preset `train-crm-ccm`. The
    reconstructor reads its pictures as they are: of the augmentation only `content_ratio` counts.

    Attributes:
        heldout: the first objects, by name, that are not trained on where there are more than that.
        fronts: views that may be taken as the front, 0..5.
        content_scale: range of a random factor on the size of the content.
        content_ratio: size of the content besides, in (0, 1].
        background: range of the random grey behind everything, 0..255.
        stroke_share: of the condition pictures get a coloured outline.
        tokenizer: folder of CLIP's tokenizer, for the captions; empty gives every object the fixed
            prompt of the encoders.
        max_side: pixels per side of a picture; larger ones are refused.
        threads: that read and prepare rows ahead; 0 does so when a row is needed.
        ahead: rows that are prepared before they are needed.
    """

    heldout: int = 100
    fronts: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    content_scale: tuple[float, float] = (0.5, 1.0)
    content_ratio: float = 0.95
    background: tuple[float, float] = (0.0, 255.0)
    stroke_share: float = 0.5
    tokenizer: str = ""
    max_side: int = 2048
    threads: int = 4
    ahead: int = 32

    def __post_init__(self) -> None:
        if not self.fronts or not set(self.fronts) <= set(range(VIEWS)):
            raise ValueError(f"fronts must be views within 0 and 5, got {list(self.fronts)}")
        for name, top in (("content_scale", 1.0), ("background", 255.0)):
            low, high = getattr(self, name)
            if not 0.0 <= low <= high <= top:
                raise ValueError(f"{name} must rise within 0 and {top:g}, got [{low}, {high}]")
        if not 0.0 < self.content_ratio <= 1.0 or self.content_scale[0] == 0.0:
            raise ValueError("content_ratio and content_scale must be above 0 and at most 1")
        if not 0.0 <= self.stroke_share <= 1.0:
            raise ValueError(f"stroke_share must be within 0 and 1, got {self.stroke_share}")
        for name in ("heldout", "threads", "ahead"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True)
class CrmTrainingConfig:
    """Everything `geco train` reads.

    Attributes:
        name: of the preset.
        training: `views` and `ccm` are the two diffusion stages.
        data: folder or `s3://` prefix with the objects.
        out: folder of the training, local or `s3://`.
        seed: of every draw.
        model, init, updates, examples, train: the parts.
        loss: of the diffusion stages.
        render: of the reconstructor.
        cluster, s3: as in `geco generate`.
    """

    name: str = ""
    training: CrmTraining = "views"
    data: str = ""
    out: str = ""
    seed: int = 1234
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    updates: UpdatesConfig = field(default_factory=UpdatesConfig)
    loss: FrameLossConfig = field(default_factory=FrameLossConfig)
    render: CrmRenderConfig = field(default_factory=CrmRenderConfig)
    examples: ExamplesConfig = field(default_factory=ExamplesConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    s3: S3Config = field(default_factory=S3Config)

    @property
    def stage(self) -> str:
        """Name of the training among all trainings: `crm-views`, ..."""
        return f"crm-{self.training}"
