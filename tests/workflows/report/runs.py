"""A small finished run, written through the commit protocol, for tests of the report."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from geco_core.config.run import RunConfig
from geco_core.errors import Reason
from geco_core.mesh.finish import finish_mesh
from geco_core.types import Mesh, Outcome, Status
from infra.commit import commit_shard
from infra.dataset import RowContext, rows_to_table, summarise
from infra.finish_columns import QC, finish_columns
from infra.plan import SystemDescription, make_plan, open_run
from infra.storage import LocalStorage

PROVENANCE: dict[str, Any] = {
    "config_digest": "c" * 64,
    "weights_digest": "d" * 64,
    "code_version": "0.1.0",
    "licences": ["Apache-2.0"],
}
EVIL = "</script><script>window.evil=1</script><img src=x onerror=window.evil=2>\"'&amp;"


def bumpy(seed: int, rings: int = 20, segments: int = 40) -> Mesh:
    """A closed, coloured blob; every seed has its own shape."""
    rng = np.random.default_rng(seed)
    theta = np.linspace(0, np.pi, rings + 1)
    phi = np.arange(segments) / segments * 2 * np.pi
    t, p = np.meshgrid(theta[1:-1], phi, indexing="ij")
    radius = 0.6 + 0.12 * np.sin(t) * (
        np.sin(rng.integers(2, 5) * p + rng.uniform(0, 6)) + np.cos(rng.integers(2, 6) * t)
    )
    ring = np.stack(
        [radius * np.sin(t) * np.sin(p), radius * np.cos(t), radius * np.sin(t) * np.cos(p)],
        axis=-1,
    )
    vertices = np.concatenate([[[0, 0.62, 0]], ring.reshape(-1, 3), [[0, -0.62, 0]]])
    faces: list[tuple[int, int, int]] = []
    last = 1 + (rings - 2) * segments
    for s in range(segments):
        n = (s + 1) % segments
        faces += [(0, 1 + s, 1 + n), (len(vertices) - 1, last + n, last + s)]
        for r in range(rings - 2):
            a, b = 1 + r * segments + s, 1 + r * segments + n
            faces += [(a, a + segments, b), (b, a + segments, b + segments)]
    shade = np.linalg.norm(vertices, axis=1, keepdims=True) / 0.85
    base = rng.uniform(60, 255, 3)
    stripe = np.where(np.sin(vertices[:, 1:2] * 14) > 0.3, 0.7, 1.0)
    colors = np.clip(base * shade * stripe, 0, 255).astype(np.uint8)
    return Mesh(vertices.astype(np.float32), np.array(faces, dtype=np.int32), colors=colors)


def picture(seed: int) -> bytes:
    """A small PNG to stand for the input image."""
    y, x = np.mgrid[:96, :96]
    color = np.random.default_rng(seed).uniform(60, 255, 3)
    rgba = np.zeros((96, 96, 4), dtype=np.uint8)
    rgba[..., :3], rgba[..., 3] = color, 255 * (np.hypot(x - 48, y - 48) < 38)
    stream = io.BytesIO()
    Image.fromarray(rgba).save(stream, format="PNG")
    return stream.getvalue()


def write_run(
    folder: Path,
    *,
    done: int = 6,
    failed: int = 3,
    shard_size: int = 4,
    evil: bool = False,
    commit: int | None = None,
) -> LocalStorage:
    """A run of `done` assets, `failed` rows and one skipped row.

    Args:
        folder: run folder; input pictures go to its sibling `inputs`.
        evil: put markup into every text a user controls.
        commit: how many shards to commit; None means all.
    """
    inputs = folder.parent / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    total = done + failed + 1
    names = [f"object-{index:02d}" + (EVIL if evil else "") for index in range(total)]
    for index in range(done):
        (inputs / f"{index}.png").write_bytes(picture(index))
    manifest = pa.table({"id": names, "image": [f"{index}.png" for index in range(total)]})
    pq.write_table(manifest, inputs / "manifest.parquet")
    config = RunConfig(
        manifest=str(inputs / "manifest.parquet"), out=str(folder), shard_size=shard_size
    )
    storage = LocalStorage(folder)
    plan = make_plan(storage, config)
    system = SystemDescription(
        {"sampler": {"steps": 4}}, {"multiview": "package:micro"}, ("Apache-2.0",)
    )
    open_run(
        storage,
        config,
        plan,
        system,
        {"python": "3.11", "machine": EVIL if evil else "x86_64"},
        "2026-01-01T00:00:00Z",
    )
    context = RowContext("instantmesh", "micro", PROVENANCE, finish_columns([QC]))
    for number in range(plan.shards if commit is None else commit):
        shard = plan.shard(number)
        rows = range(shard.start, shard.stop)
        outcomes = [_outcome(index, names[index], done, failed, evil) for index in rows]
        table = rows_to_table(
            outcomes, [f"{index}.png" for index in rows], context, pa.table({"k": list(rows)})
        )
        stamp = {
            "worker": f"worker-{number % 2}",
            "finished_at": f"2026-01-01T00:{number + 1:02d}:00Z",
        }
        summary = replace(summarise(outcomes, shard, 12.5, {}), **stamp)
        commit_shard(storage, table.drop_columns(["k"]), summary)
    return storage


def _outcome(index: int, item_id: str, done: int, failed: int, evil: bool) -> Outcome:
    message = EVIL if evil else f"12x{index} pixels, at least 16 per side are needed"
    if index < done:
        asset = finish_mesh(
            bumpy(index), item_id=item_id, seed=index, provenance=PROVENANCE, thumbnail_size=96
        )
        timing = {
            "prepare": 0.02,
            "multiview": 2.0 + 0.1 * index,
            "reconstruct": 0.5,
            "extract": 0.3,
            "finish": 0.1,
        }
        notes = ("background keyed out: uniform #ffffff",) if index % 2 else ()
        return Outcome(item_id, Status.DONE, index, asset=asset, timing=timing, notes=notes)
    if index < done + failed:
        reason = Reason.IMAGE_TOO_SMALL if index % 2 else Reason.CORRUPT_IMAGE
        return Outcome(
            item_id, Status.FAILED, index, reason, message, "prepare", timing={"prepare": 0.01}
        )
    return Outcome(item_id, Status.SKIPPED, index, Reason.DUPLICATE_ID, message, "plan", attempts=0)
