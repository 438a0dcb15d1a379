"""CRM's recipe at toy length: stages run once, and what is exported is what was trained."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from geco_core.checkpoints.header import read_header
from geco_core.checkpoints.origin import read_licences, read_origin
from geco_core.checkpoints.safe import load_into, load_weights
from geco_core.config import load as config_load
from geco_core.diffusion.codec import PatchCodec
from geco_core.errors import Fatal
from geco_core.multiview.crm import CrmDiffusion
from geco_core.training import export
from geco_core.training.crm_recipe import STAGES, run_crm_stage
from geco_core.training.crm_workspace import CrmRecipeConfig, CrmWorkspace
from geco_core.training.export import PARTS, export_crm_weights, file_name, install_weights
from geco_core.training.loop import LoopConfig

LOOP = LoopConfig(steps=1, batch_size=2, warmup_steps=1, decay_steps=1, log_every=1)


def tiny_recipe() -> CrmRecipeConfig:
    base = CrmRecipeConfig(examples=4, heldout_examples=2, codec_rows=2, sample_rows=2)
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(base):
        value = getattr(base, field.name)
        if isinstance(value, LoopConfig):
            changes[field.name] = LOOP
        elif hasattr(value, "evaluate_objects"):
            changes[field.name] = replace(value, evaluate_objects=1)
    return replace(base, **changes)


def run(stage: str, space: CrmWorkspace) -> tuple[list[int], set[str]]:
    """Reported steps, and the names of the evaluated numbers."""
    steps: list[int] = []
    names: set[str] = set()
    run_crm_stage(
        stage,
        space,
        report=lambda step, _: steps.append(step),
        evaluated=lambda _, numbers: names.update(numbers),
        progress=lambda *_: None,
        processes=1,
    )
    return steps, names


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[CrmWorkspace, dict[str, Any]]:
    """All stages, and what each of them said."""
    space = CrmWorkspace(tmp_path_factory.mktemp("crm"), tiny_recipe())
    return space, {stage: run(stage, space) for stage in STAGES}


def stored(path: Path) -> dict[str, Tensor]:
    return load_weights(str(path)).tensors


def test_every_stage_reports_and_runs_once(
    trained: tuple[CrmWorkspace, dict[str, Any]],
) -> None:
    space, said = trained
    for stage in STAGES:
        loop = hasattr(space.recipe, stage)
        assert said[stage][0] == ([1] if loop else []), stage
        assert bool(said[stage][1]) == loop
        assert run(stage, space) == ([], set()), stage  # what is finished is not done again
    assert said["views"][1] == said["ccm"][1] == {"psnr_one_step", "psnr_multi_step"}
    assert said["reconstructor"][1] == {"iou", "color_psnr"}


def test_the_stages_train_networks_over_the_same_encoders(
    trained: tuple[CrmWorkspace, dict[str, Any]],
) -> None:
    space, _ = trained
    examples, _ = space.caches(1, lambda *_: None)
    first, again = space.new_diffusion(examples), space.new_diffusion(examples)
    for name, tensor in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    codec = first.encoders.codec
    assert isinstance(codec, PatchCodec)
    assert float(codec.mean.abs().max()) > 0.01  # fitted
    both = space.trained_diffusion(examples)
    for stage in ("views", "ccm"):
        own = torch.load(space.weights(stage), weights_only=True)
        found = getattr(both, stage).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in own.items())
        before = getattr(first, stage).state_dict()
        assert any(not torch.equal(found[name], before[name]) for name in own)


def test_the_export_is_what_was_trained(
    trained: tuple[CrmWorkspace, dict[str, Any]], tmp_path: Path
) -> None:
    space, _ = trained
    target = export_crm_weights(space, tmp_path / "one")
    files = {part: target / file_name("crm", part) for part in PARTS}
    assert sum(path.stat().st_size for path in files.values()) < 6_000_000
    examples, _ = space.caches(1, lambda *_: None)
    diffusion = space.trained_diffusion(examples)
    last = next(s for s in ("render", "finetune", "reconstructor") if s in STAGES)
    wanted = {
        "multiview": diffusion.state_dict(),
        "reconstructor": torch.load(space.weights(last), weights_only=True),
    }
    for part, path in files.items():
        found = stored(path)
        assert found.keys() == wanted[part].keys()
        for name, tensor in wanted[part].items():
            difference = float((found[name] - tensor).norm())
            assert difference <= 0.0126 * float(tensor.norm()), name
        assert read_licences(path) == ("Apache-2.0",)
        origin = read_origin(read_header(path).metadata)
        assert origin["recipe"] == config_load.to_dict(space.recipe)
    load_into(CrmDiffusion(space.config.diffusion), load_weights(str(files["multiview"])), "both")
    again = export_crm_weights(space, tmp_path / "two")
    for path in files.values():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_the_last_reconstructor_is_exported(
    trained: tuple[CrmWorkspace, dict[str, Any]], tmp_path: Path
) -> None:
    done, _ = trained
    space = CrmWorkspace(tmp_path / "run", done.recipe)
    shutil.copytree(done.folder / "cache", space.folder / "cache")
    for stage in ("views", "ccm", "reconstructor"):
        space.weights(stage).parent.mkdir()
        shutil.copy(done.weights(stage), space.weights(stage))
    state = torch.load(space.weights("reconstructor"), weights_only=True)
    name = "unet.network.conv_in.bias"
    for change, stage in enumerate(("reconstructor", "finetune", "render")):
        space.weights(stage).parent.mkdir(exist_ok=True)
        torch.save({**state, name: state[name] + change}, space.weights(stage))
        target = export_crm_weights(space, tmp_path / stage)
        found = stored(target / file_name("crm", "reconstructor"))[name]
        torch.testing.assert_close(found, state[name] + change, rtol=1e-3, atol=1e-3)


def test_installing_pins_the_digests(
    trained: tuple[CrmWorkspace, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, _ = trained
    target = export_crm_weights(space, tmp_path / "export")
    package, preset = tmp_path / "package", tmp_path / "crm-micro.yaml"
    (package / "weights").mkdir(parents=True)
    preset.write_text(config_load.preset_path("crm", "micro").read_text())
    monkeypatch.setattr(export.resources, "files", lambda _: package)
    monkeypatch.setattr(export.config_load, "preset_path", lambda *_: preset)
    install_weights(target, "crm")
    config = config_load.load(type(space.config), preset)
    for part in PARTS:
        weights = load_weights(
            str(package / "weights" / file_name("crm", part)),
            getattr(config.weights, f"{part}_sha256"),
        )
        assert len(weights.sha256) == 64
    preset.write_text(preset.read_text().replace("reconstructor_sha256", "sha256"))
    with pytest.raises(Fatal, match="no line `reconstructor_sha256:`"):
        install_weights(target, "crm")


def test_unknown_stages_and_missing_weights_are_refused(tmp_path: Path) -> None:
    space = CrmWorkspace(tmp_path, tiny_recipe())
    with pytest.raises(Fatal, match="unknown training stage") as caught:
        run("dreaming", space)
    assert "reconstructor" in caught.value.remedy
    with pytest.raises(Fatal, match="multiview is not trained"):
        export_crm_weights(space, tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_the_recipe_survives_json() -> None:
    recipe = tiny_recipe()
    assert config_load.build(CrmRecipeConfig, config_load.to_dict(recipe)) == recipe
