"""Weights files open without being read twice, and without running their code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geco_core.checkpoints.refusals import CheckpointError, Refusal
from geco_core.checkpoints.state import open_state

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2).half()}


def write(path: Path, *, archive: bool = True) -> Path:
    if path.suffix == ".safetensors":
        save_file(STATE, path)
    else:
        torch.save({"state_dict": STATE, "epoch": 2}, path, _use_new_zipfile_serialization=archive)
    return path


@pytest.mark.parametrize(
    ("name", "archive", "prefix"),
    [
        ("x.safetensors", True, ""),
        ("x.ckpt", True, "state_dict."),
        ("x.bin", False, "state_dict."),
    ],
)
def test_every_format_opens(tmp_path: Path, name: str, archive: bool, prefix: str) -> None:
    path = write(tmp_path / name, archive=archive)
    opened = open_state(path)
    assert {k: v.tolist() for k, v in opened.tensors.items()} == {
        prefix + k: v.tolist() for k, v in STATE.items()
    }
    assert opened.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert opened.dropped == (("epoch (int)",) if prefix else ())


@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt"])
def test_writing_to_a_mapped_tensor_leaves_the_file_alone(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    before = path.read_bytes()
    for tensor in open_state(path).tensors.values():
        tensor.zero_()
    assert path.read_bytes() == before


def test_links_are_followed_and_digests_compared(tmp_path: Path) -> None:
    path = write(tmp_path / "blob.safetensors")
    (tmp_path / "model.safetensors").symlink_to(path)
    digest = open_state(tmp_path / "model.safetensors").sha256
    open_state(path, digest.upper())
    with pytest.raises(CheckpointError) as caught:
        open_state(path, "0" * 64)
    assert caught.value.refusal is Refusal.WRONG_DIGEST


def test_compressed_archives_are_never_mapped(tmp_path: Path) -> None:
    """Torch would take the compressed bytes for the tensors."""
    import zipfile

    source, packed = write(tmp_path / "x.ckpt"), tmp_path / "y.ckpt"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    assert torch.load(packed, weights_only=True)["epoch"] == 2
    with pytest.raises(CheckpointError) as caught:
        open_state(packed)
    assert caught.value.refusal is Refusal.BOMB
