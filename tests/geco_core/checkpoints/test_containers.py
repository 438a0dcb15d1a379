"""Formats by their bytes; what is refused is in the corpus of bad checkpoints."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geco_core.checkpoints.containers import Kind, check_archive, inspect, verify_records
from geco_core.checkpoints.refusals import CheckpointError, Refusal

LIMIT = 1 << 20


def test_the_three_formats(tmp_path: Path) -> None:
    state = {"a": torch.ones(3)}
    torch.save(state, tmp_path / "new")
    torch.save(state, tmp_path / "old", _use_new_zipfile_serialization=False)
    torch.save(state, tmp_path / "p4", pickle_protocol=4)
    save_file(state, tmp_path / "safe")
    found = {name: inspect(tmp_path / name, max_bytes=LIMIT) for name in ("new", "old", "safe")}
    assert found == {"new": Kind.ZIP, "old": Kind.PICKLE, "safe": Kind.SAFETENSORS}
    assert inspect(tmp_path / "p4", max_bytes=LIMIT) is Kind.ZIP
    verify_records(tmp_path / "new")


def test_the_limit_is_inclusive(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "x")
    size = (tmp_path / "x").stat().st_size
    inspect(tmp_path / "x", max_bytes=size)
    with pytest.raises(CheckpointError) as caught:
        inspect(tmp_path / "x", max_bytes=size - 1)
    assert caught.value.refusal is Refusal.TOO_LARGE


def test_archives_without_checksums_pass(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, tmp_path / "x")
    finally:
        torch.serialization.set_crc32_options(before)
    check_archive(tmp_path / "x")
    verify_records(tmp_path / "x")


def test_large_archives_state_the_size_of_their_directory_elsewhere(tmp_path: Path) -> None:
    """Above 4 GiB the end record says "see the 64-bit one", which may lie as well."""
    path = tmp_path / "x"
    torch.save({"a": torch.ones(3)}, path)
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    data[end + 12 : end + 16] = b"\xff\xff\xff\xff"
    wide = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 8, 8, 1 << 40, 0)
    path.write_bytes(data[:end] + wide + data[end:])
    with pytest.raises(CheckpointError, match="claims 1,099,511,627,776 bytes") as caught:
        check_archive(path)
    assert caught.value.refusal is Refusal.BOMB
