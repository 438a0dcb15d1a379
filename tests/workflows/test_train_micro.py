"""`geco train-micro` from the command line: stages as child processes, progress, refusals."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from geco_core.errors import ConfigError, Fatal
from workflows.train_micro import train_micro

TINY = [
    "examples=4",
    "heldout_examples=2",
    "codec_views=4",
    "teacher_rows=2",
    "finetune.batch_size=2",
    *(
        f"{loop}.{key}"
        for loop in ("multiview", "reconstructor", "finetune", "noised")
        for key in ("steps=2",)
    ),
    *(f"{loop}.log_every=1" for loop in ("multiview", "reconstructor", "finetune", "noised")),
    "multiview.batch_size=2",
    "noised.batch_size=2",
    "noised_task.evaluate_objects=1",
    "reconstructor.batch_size=2",
    "multiview_task.evaluate_objects=1",
    "reconstructor_task.evaluate_objects=1",
    "finetune_task.evaluate_objects=1",
]


def _console() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=200), text


@pytest.mark.slow  # ten child processes that import torch; the recipe test runs the stages in one
@pytest.mark.timeout(400)
def test_it_trains_exports_and_resumes(tmp_path: Path) -> None:
    console, text = _console()
    target = train_micro("instantmesh", tmp_path, TINY, install=False, console=console)
    files = sorted(p.name for p in target.iterdir())
    assert files == [
        "instantmesh-micro-multiview.safetensors",
        "instantmesh-micro-reconstructor.safetensors",
    ]
    assert "psnr_one_step" in text.getvalue()
    events = (tmp_path / "finetune" / "events.jsonl").read_text().splitlines()
    assert [json.loads(e)["step"] for e in events if json.loads(e)["kind"] == "train"] == [1, 2]
    assert list((tmp_path / "tensorboard" / "multiview").iterdir())
    before = {p.name: p.read_bytes() for p in target.iterdir()}
    console, _ = _console()
    again = train_micro("instantmesh", tmp_path, TINY, install=False, console=console)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == before


def test_another_recipe_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    console, _ = _console()
    (tmp_path / "recipe.json").write_text(json.dumps({"seed": 1}))
    with pytest.raises(ConfigError, match="another recipe"):
        train_micro("instantmesh", tmp_path, TINY, install=False, console=console)


def test_unknown_systems_and_keys_are_refused(tmp_path: Path) -> None:
    console, _ = _console()
    with pytest.raises(Fatal, match="no micro recipe"):
        train_micro("crm", tmp_path, [], install=False, console=console)
    with pytest.raises(ConfigError) as caught:
        train_micro("instantmesh", tmp_path, ["multivew.steps=1"], install=False, console=console)
    assert "multiview" in caught.value.remedy
