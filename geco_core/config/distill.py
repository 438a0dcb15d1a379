"""Configuration of a distillation: teacher, targets, both stages, and how they are run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from geco_core.config.run import ClusterConfig, S3Config
from geco_core.distill.stage1 import Stage1Config
from geco_core.distill.stage1_trainer import Stage1TrainerConfig
from geco_core.distill.stage2 import Stage2Config
from geco_core.distill.stage2_trainer import Stage2TrainerConfig

STEPS = ("conditions", "targets", "stage1", "stage2", "evaluate", "generate")


@dataclass(frozen=True)
class TeacherConfig:
    """The chain that is distilled.

    Attributes:
        system, preset: name the chain, as in `geco generate`.
        model: overrides on the preset, as `model.*` in `geco generate`. The sampler's are the
            teacher's own: 75 DDIM steps in the paper.
        acknowledge_licences: SPDX identifiers of licences that restrict what is distilled from the
            weights, and that the user has read. A teacher under another such licence is refused.
    """

    system: str = "instantmesh"
    preset: str = "micro"
    model: dict[str, Any] = field(default_factory=dict)
    acknowledge_licences: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConditionsConfig:
    """Where the condition images come from.

    Attributes:
        manifest: of images, as in `geco generate`; empty renders procedural objects.
        objects: how many procedural objects.
        first: index of the first one.
        heldout: procedural objects of the held-out split, for evaluation and the last step.
    """

    manifest: str = ""
    objects: int = 64
    first: int = 0
    heldout: int = 16

    def __post_init__(self) -> None:
        for name in ("objects", "first", "heldout"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True)
class TargetsConfig:
    """What is kept of the teacher's work on an item.

    Attributes:
        renders: random views of the teacher's mesh; 50 in the paper.
        render_size: side in pixels.
        supersample: renders are made this much larger and averaged; as in Stage II.
        fov_deg: vertical field of view of the renders.
        radius: range of camera distances.
        elevation_deg: range of camera elevations.
        store: URI of a content-addressed store shared by runs; empty keeps one in the run folder.
        shard_size: rows per shard.
        workers, batch_size: as in `geco generate`.
    """

    renders: int = 50
    render_size: int = 512
    supersample: int = 1
    fov_deg: float = 50.0
    radius: tuple[float, float] = (2.5, 3.5)
    elevation_deg: tuple[float, float] = (-30.0, 60.0)
    store: str = ""
    shard_size: int = 256
    workers: int | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("renders", "render_size", "supersample", "shard_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("radius", "elevation_deg"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must rise, got ({low}, {high})")


@dataclass(frozen=True)
class TrainConfig:
    """How the two training steps are run.

    Attributes:
        engine: `ray` trains with Ray Train, `inline` in this process.
        workers: data-parallel processes.
        min_workers: the fewest to go on with when a node is lost; None waits for all of them.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many are kept.
        log_every: steps between log lines.
        sample_every: steps between sample sheets; 0 makes none.
        sample_objects: rows of a sample sheet.
        max_failures: how often Ray Train starts a stage's workers again.
        student_rank: rank of the student's adapters; None trains all of it.
        gradient_checkpointing: recompute activations in the backward pass.
        threads_per_worker: of each training process on the CPU.
        wandb_project: logs there too when given; needs the `wandb` extra.
    """

    engine: Literal["ray", "inline"] = "ray"
    workers: int = 1
    min_workers: int | None = None
    checkpoint_every: int = 250
    keep_checkpoints: int = 2
    log_every: int = 25
    sample_every: int = 500
    sample_objects: int = 8
    max_failures: int = 3
    student_rank: int | None = None
    gradient_checkpointing: bool = False
    threads_per_worker: int = 1
    wandb_project: str = ""

    def __post_init__(self) -> None:
        for name in (
            "workers", "checkpoint_every", "keep_checkpoints", "log_every", "sample_objects",
            "threads_per_worker",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.sample_every < 0:
            raise ValueError(f"sample_every must not be negative, got {self.sample_every}")
        if self.min_workers is not None and not 1 <= self.min_workers <= self.workers:
            raise ValueError(
                f"min_workers must be within 1 and workers={self.workers}, got {self.min_workers}"
            )


@dataclass(frozen=True)
class DistillConfig:
    """Everything `geco distill` reads.

    Attributes:
        name: of the preset.
        out: run folder, local or `s3://`.
        seed: of every draw of the run.
        teacher, conditions, targets, stage1, stage1_train, stage2, stage2_train, train: the parts.
        student_system, student_preset: what evaluates and generates with the distilled weights.
        evaluate_seeds: seeds of the evaluation, one sample per held-out object and seed.
        generate: whether the last step makes a dataset of the held-out conditions.
        cluster, s3: as in `geco generate`.
    """

    name: str = ""
    out: str = ""
    seed: int = 0
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    conditions: ConditionsConfig = field(default_factory=ConditionsConfig)
    targets: TargetsConfig = field(default_factory=TargetsConfig)
    stage1: Stage1Config = field(default_factory=Stage1Config)
    stage1_train: Stage1TrainerConfig = field(default_factory=Stage1TrainerConfig)
    stage2: Stage2Config = field(default_factory=Stage2Config)
    stage2_train: Stage2TrainerConfig = field(default_factory=Stage2TrainerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    student_system: str = "geco"
    student_preset: str = "micro"
    evaluate_seeds: tuple[int, ...] = (0, 1, 2)
    generate: bool = True
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    s3: S3Config = field(default_factory=S3Config)
