"""A teacher chain of a few thousand weights on disk, and a committed run of made-up targets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file

from geco_core.cameras import orbit_poses, projection, world_to_camera
from geco_core.config.distill import DistillConfig, TeacherConfig, TrainConfig
from geco_core.config.load import to_dict
from geco_core.distill.stage1 import Stage1Config
from geco_core.distill.stage1_trainer import Stage1TrainerConfig
from geco_core.distill.stage2 import Stage2Config
from geco_core.distill.stage2_trainer import Stage2TrainerConfig
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.render.mesh import render_mesh
from geco_core.render.registry import get_rasterizer
from geco_core.types import Asset, Outcome, Status, Target
from infra.commit import RUN_KEY, commit_shard, create_once
from infra.dataset import RowContext, ShardSummary, rows_to_table
from infra.extra_columns import extra_columns
from infra.storage import Storage
from infra.targets.columns import encode_target
from tests.geco_core.mesh.meshes import sphere
from tests.support.tiny_models import TINY_PATCH_VIEWS, TINY_RECONSTRUCTOR

RENDER_SIZE, FOV, SIDE = 24, 40.0, 16


def write_chain(folder: Path) -> dict[str, Any]:
    """Save random weights; returns `teacher.model` that makes `instantmesh/micro` this chain."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    models = {"multiview": Zero123Plus(TINY_PATCH_VIEWS), "reconstructor": _reconstructor()}
    weights = {"licence": "Apache-2.0"}
    for name, model in models.items():
        path = folder / f"{name}.safetensors"
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
        weights[name] = str(path)
        weights[f"{name}_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "multiview": to_dict(TINY_PATCH_VIEWS),
        "reconstructor": to_dict(TINY_RECONSTRUCTOR),
        "weights": weights,
    }


def _reconstructor() -> InstantMesh:
    torch.manual_seed(1)
    return InstantMesh(TINY_RECONSTRUCTOR)


def weights_digest(model: dict[str, Any]) -> str:
    """What the chain says of its weights."""
    weights = model["weights"]
    return f"{weights['multiview_sha256']}+{weights['reconstructor_sha256']}"


def tiny_target(index: int, digest: str, renders: int = 3) -> Target:
    """A ball of its own radius and colour."""
    rng = np.random.default_rng(index)
    w2c = world_to_camera(orbit_poses(renders, 20.0, 3.0))
    ball = sphere(8, 16, 0.5 + 0.3 * rng.random())
    color = torch.tensor(rng.random(3), dtype=torch.float32)
    made = render_mesh(
        get_rasterizer("auto", "cpu"),
        torch.from_numpy(ball.vertices),
        torch.from_numpy(ball.faces).long(),
        w2c,
        projection(FOV),
        RENDER_SIZE,
        color_fn=lambda p: color.expand(len(p), 3),
        antialias_color=True,
    )
    rgba = torch.cat([made.rgb, made.mask], 1).movedim(1, -1).clamp(0, 1)
    latent_shape = Zero123Plus(TINY_PATCH_VIEWS).latent_shape
    return Target(
        item_id=f"ball-{index}",
        seed=1000 + index,
        condition=rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8),
        latents=rng.standard_normal(latent_shape).astype(np.float16),
        renders=(rgba * 255).round().to(torch.uint8).numpy(),
        w2c=w2c.numpy().astype(np.float32),
        fov_deg=FOV,
        key=hashlib.sha256(f"ball {index}".encode()).hexdigest(),
        teacher_digest="0" * 64,
        digests={"condition": "", "settings": "1" * 64, "weights": digest},
    )


def write_targets(storage: Storage, targets: Sequence[Target]) -> str:
    """Commit one shard that holds the targets; returns the run's URI."""
    outcomes = [
        Outcome(
            t.item_id,
            Status.DONE,
            t.seed,
            asset=Asset(b"", "", b"", {}, columns=encode_target(t, [("initial", t.seed)])),
        )
        for t in targets
    ]
    context = RowContext("targets", "micro", {}, extra_columns("targets"))
    nothing = pa.table({"_": [0] * len(targets)}).select([])
    table = rows_to_table(outcomes, [""] * len(targets), context, nothing)
    create_once(storage, RUN_KEY, {"system": "targets"})
    commit_shard(storage, table, ShardSummary(0, 0, len(targets), {"done": len(targets)}))
    return storage.uri


def tiny_distill(model: dict[str, Any], **train: Any) -> DistillConfig:
    """Six steps of both stages on four rows."""
    steps = {"steps": 6, "batch_size": 4, "clip_norm": 1e6, "decay_steps": 2}
    return DistillConfig(
        teacher=TeacherConfig(model=model),
        stage1=Stage1Config(student_steps=1),
        stage1_train=Stage1TrainerConfig(**steps, generator_rate=1e-3, student_rate=1e-3),
        stage2=Stage2Config(grid_res=12, render_size=RENDER_SIZE),
        stage2_train=Stage2TrainerConfig(
            **steps, views=2, reconstructor_rate=1e-3, generator_rate=1e-3
        ),
        train=TrainConfig(
            **{
                "engine": "inline",
                "checkpoint_every": 2,
                "log_every": 2,
                "sample_every": 3,
                "sample_objects": 2,
                **train,
            }
        ),
    )
