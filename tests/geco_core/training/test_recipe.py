"""The whole recipe at toy length: stages run, resume, and export files that load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from geco_core.checkpoints.safe import load_weights
from geco_core.config import load as config_load
from geco_core.errors import Fatal
from geco_core.systems.instantmesh import build_instantmesh
from geco_core.training.export import PARTS, export_differences, export_weights, file_name
from geco_core.training.loop import LoopConfig
from geco_core.training.recipe import STAGES, RecipeConfig, Workspace, run_stage

LOOP = LoopConfig(
    steps=2, batch_size=2, warmup_steps=1, decay_steps=1, evaluate_every=2, log_every=1
)


def _recipe() -> RecipeConfig:
    base = RecipeConfig(
        examples=4,
        heldout_examples=2,
        codec_views=4,
        multiview=LOOP,
        reconstructor=LOOP,
        finetune=LOOP,
        noised=LOOP,
        teacher_rows=2,
    )
    return replace(
        base,
        multiview_task=replace(base.multiview_task, evaluate_objects=1, evaluate_steps=1),
        noised_task=replace(base.noised_task, evaluate_objects=1, evaluate_steps=1),
        reconstructor_task=replace(base.reconstructor_task, evaluate_objects=1),
        finetune_task=replace(base.finetune_task, evaluate_objects=1),
    )


def test_all_stages_run_and_the_export_loads(tmp_path: Path) -> None:
    space = Workspace(tmp_path, _recipe())
    reported: dict[str, list[int]] = {}
    evaluated: dict[str, set[str]] = {}
    for stage in STAGES:
        run_stage(
            stage,
            space,
            report=lambda step, numbers, s=stage: reported.setdefault(s, []).append(step),
            evaluated=lambda step, numbers, s=stage: evaluated.update({s: set(numbers)}),
            progress=lambda done, total: None,
            processes=1,
        )
    assert reported == {s: [1, 2] for s in ("multiview", "reconstructor", "finetune", "noised")}
    views = {"psnr_one_step", "psnr_single_step", "psnr_multi_step"}
    assert evaluated["multiview"] == evaluated["noised"] == views
    assert evaluated["finetune"] == {"iou", "color_psnr"}
    target = export_weights(space, tmp_path / "export")
    files = {part: target / file_name("instantmesh", part) for part in PARTS}
    trained = torch.load(space.weights("finetune"), weights_only=True)
    exported = load_file(files["reconstructor"])
    assert exported.keys() == trained.keys()
    assert all(v.dtype == torch.float16 for v in exported.values() if v.is_floating_point())
    build_instantmesh(
        "micro",
        [f"weights.{k}={v}" for k, v in files.items()]
        + [f"weights.{k}_sha256=''" for k in files]
        + ["device=cpu"],
    )


def test_a_distilled_chain_is_exported_as_differences(tmp_path: Path) -> None:
    weights = build_instantmesh("micro").config.weights
    student: dict[str, Path] = {}
    for part in PARTS:
        tensors = load_weights(getattr(weights, part)).tensors
        name = max(tensors, key=lambda key: tensors[key].numel())
        tensors[name] = tensors[name] + 0.01
        student[part] = tmp_path / f"{part}.safetensors"
        save_file(tensors, student[part])
    target = export_differences(student, tmp_path / "export")
    for part in PARTS:
        path = target / file_name("geco", part)
        assert path.stat().st_size < 0.2 * student[part].stat().st_size
        made, wanted = load_weights(str(path)).tensors, load_file(student[part])
        assert made.keys() == wanted.keys()
        assert all(torch.allclose(made[k], wanted[k], atol=1e-4) for k in made)
    save_file({"other": torch.zeros(2)}, student["multiview"])
    with pytest.raises(Fatal, match="was not distilled from"):
        export_differences(student, tmp_path / "export")


def test_unknown_stages_and_missing_weights_are_refused(tmp_path: Path) -> None:
    space = Workspace(tmp_path, _recipe())
    with pytest.raises(Fatal, match="unknown training stage"):
        run_stage("dreaming", space, *([lambda *_: None] * 3))
    with pytest.raises(Fatal, match="not trained"):
        export_weights(space, tmp_path / "export")


def test_the_recipe_survives_json() -> None:
    assert config_load.build(RecipeConfig, config_load.to_dict(_recipe())) == _recipe()
