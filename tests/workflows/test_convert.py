"""`geco convert` as text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geco_core.checkpoints import child, launch
from geco_core.checkpoints.refusals import CheckpointError
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
