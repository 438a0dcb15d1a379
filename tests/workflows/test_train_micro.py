"""`geco train-micro` from the command line: stages as child processes, progress, refusals."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from geco_core.checkpoints.safe import load_weights
from geco_core.errors import ConfigError, Fatal
from geco_core.training.crm_recipe import STAGES
from geco_core.training.crm_workspace import CrmRecipeConfig
from geco_core.training.export import PARTS, file_name
from geco_core.training.loop import LoopConfig
from workflows.train_micro import train_micro

CRM_LOOPS = [
    field.name
    for field in dataclasses.fields(CrmRecipeConfig)
    if isinstance(getattr(CrmRecipeConfig(), field.name), LoopConfig)
]
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

CRM_TINY = [
    "examples=4",
    "heldout_examples=2",
    "codec_rows=2",
    "sample_rows=2",
    *(f"{loop}.{key}" for loop in CRM_LOOPS for key in ("steps=2", "log_every=1", "batch_size=2")),
    *(f"{loop}_task.evaluate_objects=1" for loop in CRM_LOOPS),
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


@pytest.mark.slow  # two child processes per stage, each of which imports torch
@pytest.mark.timeout(900)
def test_crm_trains_exports_and_resumes_in_the_same_way(tmp_path: Path) -> None:
    console, text = _console()
    target = train_micro("crm", tmp_path, CRM_TINY, install=False, console=console)
    files = {part: target / file_name("crm", part) for part in PARTS}
    assert sorted(target.iterdir()) == sorted(files.values())
    assert "psnr_one_step" in text.getvalue()
    for stage in (stage for stage in STAGES if stage in CRM_LOOPS):
        lines = (tmp_path / stage / "events.jsonl").read_text().splitlines()
        steps = [json.loads(e)["step"] for e in lines if json.loads(e)["kind"] == "train"]
        assert steps == [1, 2], stage
        assert list((tmp_path / "tensorboard" / stage).iterdir())
    names = {name.partition(".")[0] for name in load_weights(str(files["multiview"])).tensors}
    assert names == {"encoders", "views", "ccm"}
    before = {part: path.read_bytes() for part, path in files.items()}
    console, _ = _console()
    train_micro("crm", tmp_path, CRM_TINY, install=False, console=console)
    assert {part: path.read_bytes() for part, path in files.items()} == before
    with pytest.raises(ConfigError, match="another recipe"):
        train_micro("instantmesh", tmp_path, TINY, install=False, console=console)


def test_another_recipe_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    console, _ = _console()
    (tmp_path / "recipe.json").write_text(json.dumps({"seed": 1}))
    with pytest.raises(ConfigError, match="another recipe"):
        train_micro("instantmesh", tmp_path, TINY, install=False, console=console)


def test_unknown_systems_and_keys_are_refused(tmp_path: Path) -> None:
    console, _ = _console()
    with pytest.raises(Fatal, match="no micro recipe"):
        train_micro("zero123", tmp_path, [], install=False, console=console)
    with pytest.raises(ConfigError) as caught:
        train_micro("instantmesh", tmp_path, ["multivew.steps=1"], install=False, console=console)
    assert "multiview" in caught.value.remedy
    with pytest.raises(ConfigError) as caught:
        train_micro("crm", tmp_path, ["viewz.steps=1"], install=False, console=console)
    assert "views" in caught.value.remedy
