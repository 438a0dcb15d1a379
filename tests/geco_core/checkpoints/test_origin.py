"""What files of ours say about where they came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geco_core.checkpoints.origin import licences_in, origin_text, read_licences, read_origin


def test_licences_go_into_a_header_and_come_back(tmp_path: Path) -> None:
    texts = origin_text(("MIT", "CC-BY-NC-4.0", "MIT"), stage="stage1")
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors", texts)
    assert read_licences(tmp_path / "x.safetensors") == ("CC-BY-NC-4.0", "MIT")
    assert read_origin(texts)["stage"] == "stage1"


@pytest.mark.parametrize(
    ("text", "licences"),
    [
        ('{"licence": "Apache-2.0"}', ("Apache-2.0",)),
        ('{"licences": "MIT"}', ("MIT",)),
        ('{"licences": [1, "MIT", ""]}', ("MIT",)),
        ("{}", ()),
        ("[1]", ()),
        ("{", ()),
    ],
)
def test_other_forms(text: str, licences: tuple[str, ...]) -> None:
    assert licences_in({"origin": text}) == licences


def test_files_of_other_kinds_state_nothing(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "x.ckpt")
    (tmp_path / "y.safetensors").write_bytes(b"noise")
    save_file({"a": torch.ones(1)}, tmp_path / "z.safetensors")
    for name in ("x.ckpt", "y.safetensors", "z.safetensors", "absent"):
        assert read_licences(tmp_path / name) == ()
