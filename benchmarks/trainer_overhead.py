"""What the trainer costs: Stage I under Ray Train against a bare torch loop of the same maths.

    python -m benchmarks.trainer_overhead --steps 30

The bare loop calls the losses, two AdamW optimisers and the moving average directly, without loop,
events, checkpoints or Ray; it ends in the same weights, which is checked. It runs before and after
the trainer, because a machine's speed drifts; rates are those of the fastest quarter of the steps,
which other load on the machine disturbs least, and of the median step. Start-up is left out on both
sides. With two workers the same global batch is dealt to two processes, compared with one.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import nn

from actors.training_data import open_images
from benchmarks.machine import print_machine, save_result
from geco_core.config.distill import DistillConfig, TrainConfig
from geco_core.config.run import ClusterConfig
from geco_core.distill.build import TEACHER_OVERRIDES
from geco_core.distill.draws import RowDraws
from geco_core.distill.networks import stage1_networks
from geco_core.distill.stage1 import Stage1
from geco_core.distill.stage1_trainer import Stage1TrainerConfig
from geco_core.systems import build_system
from geco_core.training.cache import epoch_rows
from geco_core.training.loop import Ema
from infra.storage import LocalStorage
from workflows.train_stage import StageInputs, train_stage

WANTED = 0.9
WARM_UP = 2
LOG_EVERY = 1


def write_conditions(folder: Path, rows: int) -> Path:
    """Coloured boxes on nothing, as a manifest with the images inside."""
    images = []
    for k in range(rows):
        image = Image.new("RGBA", (96, 96), (0, 0, 0, 0))
        color = tuple(np.random.default_rng(k).integers(0, 256, 3).tolist())
        ImageDraw.Draw(image).rectangle((20, 10 + k, 70, 80), fill=(*color, 255))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        images.append(buffer.getvalue())
    path = folder / "conditions.parquet"
    pq.write_table(pa.table({"id": [f"c{k}" for k in range(rows)], "image": images}), path)
    return path


def configuration(steps: int, batch_size: int, workers: int) -> DistillConfig:
    """The micro teacher; one checkpoint in the middle, no sheets."""
    optimise = Stage1TrainerConfig(
        steps=steps, batch_size=batch_size, generator_rate=1e-5, student_rate=1e-5
    )
    base = DistillConfig(cluster=ClusterConfig(num_cpus=2, num_gpus=0))
    return replace(
        base,
        stage1=replace(base.stage1, student_steps=1),
        stage1_train=optimise,
        train=TrainConfig(
            workers=workers, checkpoint_every=steps // 2, log_every=LOG_EVERY, sample_every=0
        ),
    )


def bare_loop(config: DistillConfig, manifest: Path, scratch: Path) -> tuple[list[float], Any]:
    """Seconds per step of a loop written by hand, and the averaged weights it ends with."""
    teacher: Any = build_system("instantmesh", "micro", TEACHER_OVERRIDES)
    model, optimise = teacher.models[0], config.stage1_train
    data = open_images(str(manifest), LocalStorage(scratch), teacher, model, config.s3)
    networks = stage1_networks(model)
    stage1 = Stage1(networks, config.stage1)
    parameters = [networks.generator_parameters, networks.student_parameters]
    adams = [
        torch.optim.AdamW(p, 1e-5, optimise.betas, weight_decay=optimise.weight_decay, fused=True)
        for p in parameters
    ]
    ema, seconds = Ema(networks.generator.unet, optimise.ema_decay), []
    for step in range(optimise.steps):
        begun = time.perf_counter()
        places = range(optimise.batch_size)
        rows = epoch_rows(len(data), optimise.batch_size, step, optimise.seed)
        draws = RowDraws(optimise.seed, step, places, stream="generator")
        conditions = stage1.conditions(data.images(rows), draws)
        loss, latents, _ = stage1.generator_loss(conditions, draws)
        update(loss, adams[0], parameters[0], optimise, step)
        draws = RowDraws(optimise.seed, step, places, stream="student-0")
        loss, _ = stage1.student_loss(latents, conditions, draws)
        update(loss, adams[1], parameters[1], optimise, step)
        ema.update(networks.generator.unet, step)
        seconds.append(time.perf_counter() - begun)
    return seconds, ema.shadow


def update(
    loss: torch.Tensor,
    adam: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    optimise: Stage1TrainerConfig,
    step: int,
) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, optimise.clip_norm)
    for group in adam.param_groups:
        group["lr"] = 1e-5 * optimise.factor(step)
    adam.step()
    adam.zero_grad(set_to_none=True)


def rates(seconds: list[float]) -> dict[str, float]:
    """Steps per second of the fastest quarter of the steps, and of the median one."""
    fastest = sorted(seconds)[: max(1, len(seconds) // 4)]
    return {
        "steps_per_s": 1.0 / statistics.mean(fastest),
        "median_steps_per_s": 1.0 / statistics.median(seconds),
    }


def under_ray(config: DistillConfig, manifest: Path, folder: Path) -> dict[str, float]:
    """Rates of the steps, and over the whole span with its checkpoints."""
    seconds: list[float] = []

    def on_event(kind: str, step: int, numbers: Mapping[str, Any]) -> None:
        if kind == "train" and step > WARM_UP:
            seconds.append(1.0 / numbers["steps_per_s"])

    inputs = StageInputs(conditions=str(manifest))
    start = time.perf_counter()
    result = train_stage("stage1", config, inputs, str(folder), on_event=on_event)
    command_s = time.perf_counter() - start
    assert result.complete
    times = [
        json.loads(line)
        for path in sorted((folder / "events").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    span = span_s(times)
    return rates(seconds) | {
        "steps_per_s_with_checkpoints": (config.stage1_train.steps - WARM_UP) / span,
        "command_s": command_s,
    }


def span_s(events: list[dict[str, Any]]) -> float:
    """Seconds from the end of the warm-up to the last event."""
    from datetime import datetime  # noqa: PLC0415

    at = {
        event["step"]: datetime.fromisoformat(event["time"])
        for event in events
        if event["kind"] == "train"
    }
    end = max(datetime.fromisoformat(event["time"]) for event in events)
    return (end - at[WARM_UP]).total_seconds()


def largest_difference(folder: Path, shadow: Mapping[str, torch.Tensor]) -> float:
    made = load_file(folder / "weights.safetensors")
    return max(float((made[f"unet.{key}"] - value).abs().max()) for key, value in shadow.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2, help="1 leaves the scaling out")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Ray runs its workers at niceness 15: on a shared machine others would take their turns.
    os.environ.setdefault("RAY_worker_niceness", "0")
    print_machine()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_conditions(folder, 16)
        one = configuration(options.steps, options.batch_size, 1)
        before, shadow = bare_loop(one, manifest, folder / "bare")
        ray = under_ray(one, manifest, folder / "one")
        after, _ = bare_loop(one, manifest, folder / "bare")
        bare = rates([*before[WARM_UP:], *after[WARM_UP:]])
        result: dict[str, Any] = {
            "system": "instantmesh/micro, Stage I, one student step",
            "steps": options.steps,
            "batch_size": options.batch_size,
            "bare": bare,
            "bare_before": rates(before[WARM_UP:]),
            "bare_after": rates(after[WARM_UP:]),
            "ray_train": ray,
            "share": ray["steps_per_s"] / bare["steps_per_s"],
            "median_share": ray["median_steps_per_s"] / bare["median_steps_per_s"],
            "largest_weight_difference": largest_difference(folder / "one", shadow),
            "wanted_share": WANTED,
        }
        if options.workers > 1:
            many = configuration(options.steps, options.batch_size, options.workers)
            several = under_ray(many, manifest, folder / "many")
            result["workers"] = options.workers
            result["ray_train_several"] = several
            result["speed_up"] = several["steps_per_s"] / ray["steps_per_s"]
            result["largest_weight_difference_several"] = largest_difference(
                folder / "many", shadow
            )
    result["load_before_and_after"] = [round(load[0], 2), round(os.getloadavg()[0], 2)]
    print(json.dumps(result, indent=2))
    save_result("trainer_overhead", result, options.out)


if __name__ == "__main__":
    main()
