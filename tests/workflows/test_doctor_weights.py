"""`geco doctor --config`: the weights of a run, before it is started."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from geco_core.config.run import RunConfig
from tests.geco_core.checkpoints.published import tiny_chain, write_chain
from workflows import cli
from workflows.doctor_weights import BAD, GOOD, NOTE, weights_findings


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    write_chain(tmp_path)
    weights = {
        "multiview": str(tmp_path / "zero123plus-v1.2"),
        "white_unet": str(tmp_path / "InstantMesh"),
        "reconstructor": str(tmp_path / "InstantMesh/instant_mesh_large.ckpt"),
    }
    run = {"preset": "full", "model": {**tiny_chain(), "weights": weights}}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run))
    return path


def test_whole_weights_are_listed_part_by_part(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "--config", str(settings)]) == cli.OK
    text = capsys.readouterr().out
    for part in ("unet", "vae", "text_encoder", "vision_encoder", "the mesh reconstructor"):
        assert f" {part}: " in text
    assert "20 renamed, 0 dropped" in text
    assert "note licence      CC-BY-NC-4.0\n" in text
    assert "no commercial use" in text


def test_every_half_that_fails_is_told_with_its_remedy(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["doctor", "--config", str(settings), f"model.weights.multiview_sha256={'a' * 64}"]
    assert cli.main([*words, "model.weights.reconstructor=nobody/nothing"]) == cli.OVER_LIMIT
    text = capsys.readouterr().out
    assert "FAIL multiview    diffusion_pytorch_model.bin has sha256" in text
    assert "FAIL reconstructor nobody/nothing is not in the local cache" in text
    assert "hf download nobody/nothing reconstructor.ckpt --local-dir weights/nothing" in text


def test_systems_without_weights_and_shipped_ones() -> None:
    (only,) = weights_findings(RunConfig(system="noop"))
    assert (only.level, only.name) == (GOOD, "weights")
    levels = [finding.level for finding in weights_findings(RunConfig())]
    assert levels == [GOOD] * 3
    assert {BAD, NOTE}.isdisjoint(levels)
