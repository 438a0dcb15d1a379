"""`geco train-micro`: train the micro weights from seeds, on two processes of one thread each,
resumably.

Every stage is a child process (`python -m workflows.train_micro SYSTEM STAGE FOLDER`) that appends
events to `FOLDER/STAGE/events.jsonl` and TensorBoard logs to `FOLDER/tensorboard/STAGE`; this
process draws the progress. Running the same command again resumes where the last checkpoints stand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from torch.utils.tensorboard import SummaryWriter

from geco_core.config import load as config_load
from geco_core.errors import ConfigError, Fatal
from geco_core.training.export import install_weights
from workflows.micro_recipes import RECIPES, micro_recipe

_LENGTHS = {"steps", "decay_steps", "checkpoint_every", "evaluate_every", "log_every"}


def train_micro(
    system: str, folder: Path, overrides: Sequence[str], *, install: bool, console: Console
) -> Path:
    """Train everything that is not trained yet, then export the weights as safetensors.

    Args:
        system: one of `RECIPES`; `geco` is distilled by `workflows.train_geco`.
        folder: the training run's folder; reused when it exists.
        overrides: `key.sub=value` on the recipe's configuration.
        install: also copy the weights into the package and pin their digests in the preset.
        console: where progress goes.

    Returns:
        The folder that holds the exported safetensors.

    Raises:
        Fatal: unknown system, or a stage failed (its log is named).
        ConfigError: a bad override, or a folder that was started with another recipe.
    """
    recipe = micro_recipe(system)
    config = config_load.load(recipe.config, None, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    _pin_recipe(folder / "recipe.json", config_load.to_dict(config))
    for wave in recipe.waves:
        _run_wave(system, wave, folder, config, console)
    target = recipe.export(recipe.workspace(folder, config), folder / "export")
    if install:
        install_weights(target, system)
    return target


def _pin_recipe(path: Path, recipe: dict[str, Any]) -> None:
    """Write the recipe, or refuse one that differs in more than the lengths of the loops."""
    if path.is_file():
        lines = config_load.difference(json.loads(path.read_text()), recipe)
        wrong = [line for line in lines if line.split(":")[0].rpartition(".")[2] not in _LENGTHS]
        if wrong:
            raise ConfigError(
                f"{path.parent} was started with another recipe:\n  " + "\n  ".join(wrong),
                remedy="give another --out folder, or the settings it was started with",
            )
    path.write_text(json.dumps(recipe, indent=2))


def _run_wave(
    system: str, stages: Sequence[str], folder: Path, config: Any, console: Console
) -> None:
    environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONUNBUFFERED="1")
    children: dict[str, subprocess.Popen[bytes]] = {}
    for stage in stages:
        (folder / stage).mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "workflows.train_micro", system, stage, str(folder)]
        with (folder / stage / "log.txt").open("ab") as log:
            children[stage] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _watch(children, folder, config, console)
    finally:  # a failure or an interrupt ends the others too
        for child in children.values():
            child.terminate()
        for child in children.values():
            child.wait()


def _watch(
    children: dict[str, subprocess.Popen[bytes]], folder: Path, config: Any, console: Console
) -> None:
    """Draw the progress of the stages until all have ended. Raises `Fatal` when one fails."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {s: bars.add_task(s, total=_total(s, config), numbers="") for s in children}
        offsets = dict.fromkeys(children, 0)
        while children:
            time.sleep(1.0)
            for stage, child in list(children.items()):
                code = child.poll()
                offsets[stage] = _follow(
                    folder / stage / "events.jsonl", offsets[stage], bars, tasks[stage]
                )
                if code is None:
                    continue
                del children[stage]
                if code != 0:
                    raise Fatal(
                        f"training stage {stage} ended with code {code}",
                        stage=stage,
                        remedy=f"read {folder / stage / 'log.txt'}; the same command resumes",
                    )


def _follow(path: Path, offset: int, bars: Progress, task: TaskID) -> int:
    if not path.is_file():
        return offset
    with path.open("rb") as file:
        file.seek(offset)
        chunk = file.read()
    complete = chunk.rfind(b"\n") + 1
    for line in chunk[:complete].splitlines():
        event = json.loads(line)
        numbers = {k: v for k, v in event["numbers"].items() if k not in {"done", "total"}}
        shown = " ".join(f"{k} {v:.4g}" for k, v in numbers.items())
        if event["kind"] == "evaluated":
            bars.console.print(f"{event['stage']} step {event['step']}: {shown}")
        elif event["kind"] == "progress":
            bars.update(task, completed=event["step"], total=event["numbers"]["total"])
        else:
            bars.update(task, completed=event["step"], numbers=shown)
    return offset + complete


def _total(stage: str, config: Any) -> int:
    loop = getattr(config, stage, None)
    return loop.steps if loop is not None else 1


def _stage_main(system: str, stage: str, folder: Path) -> int:
    torch.set_num_threads(1)
    recipe = RECIPES[system]
    config = config_load.build(recipe.config, json.loads((folder / "recipe.json").read_text()))
    writer = SummaryWriter(str(folder / "tensorboard" / stage))
    (folder / stage).mkdir(parents=True, exist_ok=True)
    events = (folder / stage / "events.jsonl").open("a", buffering=1)

    def emit(kind: str, step: int, numbers: Mapping[str, float]) -> None:
        events.write(
            json.dumps({"kind": kind, "stage": stage, "step": step, "numbers": dict(numbers)})
            + "\n"
        )
        for key, value in numbers.items():
            writer.add_scalar(f"{kind}/{key}", value, step)

    recipe.run_stage(
        stage,
        recipe.workspace(folder, config),
        report=lambda step, numbers: emit("train", step, numbers),
        evaluated=lambda step, numbers: emit("evaluated", step, numbers),
        progress=lambda done, total: emit("progress", done, {"done": done, "total": total}),
    )
    writer.close()
    return 0


if __name__ == "__main__":
    sys.exit(_stage_main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
