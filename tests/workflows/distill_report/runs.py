"""A small distillation on record, written as its steps would, for tests of the report."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from geco_core.config.distill import DistillConfig
from geco_core.config.load import to_dict
from infra.stages import digest_of, put_done, put_stage_json, put_workflow, work_folder
from infra.storage import LocalStorage
from infra.training_folder import put_events, put_sample
from workflows.dag_record import StepRecord

GRAPH: dict[str, tuple[str, ...]] = {
    "conditions": (), "targets": ("conditions",), "stage1": ("conditions",),
    "stage2": ("stage1", "targets"), "evaluate": ("stage1", "stage2"),
    "generate": ("conditions", "stage2", "evaluate"),
}  # fmt: skip
PRINTS = {name: f"{number:x}" * 64 for number, name in enumerate(GRAPH, 1)}
EVIL = "</script><script>window.evil=1</script><img src=x onerror=window.evil=2>\"'&amp;"


def write_distillation(
    folder: Path, *, done: tuple[str, ...] = tuple(GRAPH), sheets: int = 4, evil: bool = False
) -> LocalStorage:
    """A run folder whose steps `done` are finished.

    Args:
        folder: run folder.
        done: names of the finished steps.
        sheets: sample sheets of each training step.
        evil: put markup into every text from outside.
    """
    storage = LocalStorage(folder)
    failed = [name for name in GRAPH if name not in done][:1]
    put_workflow(
        storage,
        {
            "workflow": "distill",
            "config": to_dict(DistillConfig(name=EVIL if evil else "micro", out=str(folder))),
            "licences": ["CC-BY-NC-4.0" if not evil else EVIL],
            "steps": [
                {"name": name, "needs": list(needs), "fingerprint": PRINTS[name]}
                for name, needs in GRAPH.items()
            ],
            "created_at": "2026-01-01T00:00:00Z",
            "environment": {"machine": EVIL if evil else "x86_64"},
            "last": {
                name: {"state": "failed", "error": EVIL if evil else "no room is left"}
                for name in failed
            },
        },
    )
    for name in done:
        record = StepRecord(
            name, PRINTS[name], outputs=_outputs(storage, name), seconds=83.0,
            work={"unit": "step", "count": 40}, finished_at="2026-01-01T01:00:00Z",
            digests={f"stages/{name}/x": "a" * 64},
        )  # fmt: skip
        put_done(storage, name, record.to_json())
    for name in ("stage1", "stage2"):
        if name in done or name in failed:
            _train(storage, name, sheets)
    return storage


def _outputs(storage: LocalStorage, name: str) -> dict[str, Any]:
    if name == "stage2":
        key = f"{work_folder(name, PRINTS[name])}/student/multiview.safetensors"
        model = {"sampler": {"kind": "one_step"}}
        return {"student": {"multiview": key, "multiview_sha256": "b" * 64}, "model": model}
    if name == "evaluate":
        key = f"{work_folder(name, PRINTS[name])}/ablation.json"
        put_stage_json(storage, key, ablation())
        assert digest_of(storage, key)
        return {"table": key}
    return {"done": 12}


def ablation() -> dict[str, Any]:
    """The content of `ablation.json`: the student is better in views and worse in shape."""
    means = {"teacher": 20.0, "undistilled": 18.0, "stage1": 21.0, "stage1+2": 21.5}
    variants: dict[str, Any] = {}
    for name, mean in means.items():
        gap = mean - 20.0
        good = {"mean": mean, "low": mean - 0.4, "high": mean + 0.4, "gap": gap,
                "gap_low": gap - 0.3, "gap_high": gap + 0.3, "seed_spread": 0.1}  # fmt: skip
        variants[name] = {
            "view_psnr": good,
            "chamfer": {k: v / 100 for k, v in good.items()},
            "network_evaluations": {"mean": 2.0},
        }
    about = {name: f"what {name} is" for name in means}
    return {
        "variants": variants, "about": about, "against": "teacher", "objects": 16, "seeds": [0, 1],
    }  # fmt: skip


def _train(storage: LocalStorage, name: str, sheets: int) -> None:
    below = LocalStorage(storage.root / work_folder(name, PRINTS[name]))
    rng = np.random.default_rng(0)
    loss = "vsd" if name == "stage1" else "loss"
    for step in range(10, 401, 10):
        value = 2.0 * math.exp(-step / 90) + 0.2 + 0.1 * rng.random()
        numbers = {loss: value, "generator_norm": 3 * value, "samples_per_s": 8.0}
        event = {"kind": "train", "stage": name, "step": step, "numbers": numbers}
        put_events(below, [event])
    for sheet in range(sheets):
        pixels = rng.integers(0, 255, (64, 256, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format="PNG")
        put_sample(below, 100 * (sheet + 1), stream.getvalue())
