"""Checkpoints in several files, and indices that point elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geco_core.checkpoints.refusals import CheckpointError, Refusal
from geco_core.checkpoints.shards import read_index
from geco_core.checkpoints.state import open_state

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "text_encoder"
    folder.mkdir()
    save_file({"a": torch.ones(2), "b": torch.zeros(1)}, folder / FIRST)
    save_file({"c": torch.full((3,), 2.0)}, folder / SECOND)
    return write(folder, {"a": FIRST, "b": FIRST, "c": SECOND})


def write(folder: Path, found: object) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": found}))
    return path


def test_shards_open_as_one(index: Path) -> None:
    opened = open_state(index)
    assert {n: v.tolist() for n, v in opened.tensors.items()} == {
        "a": [1, 1],
        "b": [0],
        "c": [2, 2, 2],
    }
    assert open_state(index, opened.sha256).sha256 == opened.sha256
    with pytest.raises(CheckpointError) as caught:
        open_state(index, "0" * 64)
    assert caught.value.refusal is Refusal.WRONG_DIGEST
    save_file({"c": torch.full((3,), 3.0)}, index.parent / SECOND)
    assert open_state(index).sha256 != opened.sha256


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"a": "../model.safetensors"}, "not beside it"),
        ({"a": "/etc/model.safetensors"}, "not beside it"),
        ({"a": "..\\model.safetensors"}, "not beside it"),
        ({"a": "c:model.safetensors"}, "not beside it"),
        ({"a": ".safetensors"}, "not beside it"),
        ({"a": "model\0.safetensors"}, "not beside it"),
        ({"a": "model.bin"}, "not beside it"),
        ({"a": 3}, "not beside it"),
        ({"a": FIRST, "b": FIRST, "c": "model-3.safetensors"}, "1 of its files are missing"),
        ({"a": FIRST, "c": SECOND}, "does not hold"),
        ({f"{k}": f"{k}.safetensors" for k in range(1001)}, "1,001 files"),
        ({}, "no weight_map"),
        ([FIRST], "no weight_map"),
    ],
)
def test_bad_indices_are_refused(index: Path, found: object, text: str) -> None:
    with pytest.raises(CheckpointError, match=text) as caught:
        open_state(write(index.parent, found))
    assert caught.value.refusal is Refusal.BAD_INDEX
    assert caught.value.remedy


def test_shards_that_are_links(index: Path, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    for path in (index, index.parent / FIRST, index.parent / SECOND):
        path.rename(tmp_path / "blobs" / path.name)
        path.symlink_to(tmp_path / "blobs" / path.name)
    assert list(read_index(index)) == [FIRST, SECOND]
    index.unlink()
    write(index.parent, {"a": FIRST, "b": FIRST, "c": SECOND})
    with pytest.raises(CheckpointError, match="outside of the folder"):
        read_index(index)


def test_no_index_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    for text in ("{", "[]"):
        path.write_text(text)
        with pytest.raises(CheckpointError, match="can not be used"):
            read_index(path)
