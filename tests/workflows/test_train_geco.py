"""`geco train-micro geco`: a distillation becomes small files; an unfinished one none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import save_file

from geco_core.checkpoints.safe import load_weights
from geco_core.config.distill import DistillConfig
from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import ConfigError, Fatal
from geco_core.training.export import PARTS
from workflows import train_geco as module
from workflows.train_geco import train_geco


def finished(config: DistillConfig, *, complete: bool = True) -> Any:
    """What `distill` returns, with a student that is its teacher."""
    teacher = load(InstantMeshConfig, preset_path("instantmesh", "micro")).weights
    outputs = {}
    for part in PARTS:
        key = f"stages/stage2/abc/student/{part}.safetensors"
        path = Path(config.out) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(load_weights(getattr(teacher, part)).tensors, path)
        outputs[part] = key
    records = {"stage2": SimpleNamespace(outputs={"student": outputs})}
    return SimpleNamespace(dag=SimpleNamespace(complete=complete, records=records))


def test_the_distilled_chain_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[DistillConfig] = []

    def distil(config: DistillConfig) -> Any:
        asked.append(config)
        return finished(config)

    monkeypatch.setattr(module, "distill", distil)
    target = train_geco(tmp_path, ["stage1_train.steps=7"], install=False)
    assert sorted(p.name for p in target.iterdir()) == [
        "geco-micro-multiview.safetensors",
        "geco-micro-reconstructor.safetensors",
    ]
    assert (asked[0].name, asked[0].stage1_train.steps) == ("micro", 7)


def test_an_unfinished_distillation_exports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "distill", lambda config: finished(config, complete=False))
    with pytest.raises(Fatal, match="did not come to its end"):
        train_geco(tmp_path, [], install=False)
    assert not (tmp_path / "export").exists()
    with pytest.raises(ConfigError):
        train_geco(tmp_path, ["stage1_trian.steps=7"], install=False)
