"""`geco convert` as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from geco_core.checkpoints import child, launch
from geco_core.checkpoints.refusals import CheckpointError
from tests.geco_core.checkpoints.published import tiny_chain, write_chain
from workflows import cli
from workflows.convert import run_convert


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's work without a process."""
    monkeypatch.setattr(child, "_limit", lambda _: None)
    monkeypatch.setattr(launch, "start", lambda scratch, _: child.main(scratch))


def run(source: Path, out: Path, **changes: object) -> str:
    options = {"trusted": False, "key": None, "memory_mb": 512, "timeout_s": 60.0, **changes}
    return run_convert(str(source), str(out), **options)  # pyright: ignore[reportArgumentType]


def test_it_says_what_was_kept_dropped_and_noticed(tmp_path: Path) -> None:
    source, out = tmp_path / "m.ckpt", tmp_path / "m.safetensors"
    torch.save({"model": {"a": torch.tensor([float("nan")]), "b": torch.ones(2)}, "n": 1}, source)
    text = run(source, out, key="model")
    assert "2 tensors (float32 2), 12 bytes" in text
    assert f"wrote   {out}\n" in text
    assert "dropped 1: n (int)" in text
    assert "1 tensor with NaN or infinite values, first a" in text
    assert "vouched" not in text


def test_the_digest_of_the_source_may_be_pinned(tmp_path: Path) -> None:
    source = tmp_path / "m.ckpt"
    torch.save({"a": torch.ones(1)}, source)
    with pytest.raises(CheckpointError, match="expected 0000"):
        run(source, tmp_path / "m.safetensors", sha256="0" * 64)


def test_published_weights_by_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_chain(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"preset": "full", "model": tiny_chain()}))
    source, out = tmp_path / "InstantMesh/instant_mesh_large.ckpt", tmp_path / "m.safetensors"
    words = ["convert", str(source), "--out", str(out), "--as", "instant-mesh-large"]
    assert cli.main([*words, "--config", str(tmp_path / "run.yaml")]) == cli.OK
    text = capsys.readouterr().out
    assert "instant-mesh-large: 79 tensors, 79 renamed (state_dict.lrm_generator." in text
    assert "1 dropped (epoch (int)), 0 missing" in text
    assert "licences Apache-2.0\n" in text
    (part,) = json.loads((tmp_path / "m.safetensors.json").read_text())["parts"]
    assert len(part["renamed"]) == 79
    assert part["dropped"] == ["epoch (int)"]
    assert part["missing"] == []
    assert cli.main([*words, "--i-trust-this-file"]) == cli.REFUSED
    assert cli.main(["convert", str(source), "--out", str(out), "--white-unet", "x"]) == cli.REFUSED
    assert "there is no family ''" in capsys.readouterr().err
