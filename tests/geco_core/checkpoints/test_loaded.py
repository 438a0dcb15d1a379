"""The steps that loading every model goes through."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from geco_core.checkpoints.adapter import LoadReport, adapt, same_names
from geco_core.checkpoints.loaded import LoadedParts, load_model, load_own
from geco_core.checkpoints.origin import origin_text
from geco_core.errors import Fatal

FILE = "m.safetensors"


def build() -> nn.Linear:
    return nn.Linear(2, 3)


def fill(model: nn.Module, state: dict[str, torch.Tensor]) -> LoadReport:
    return adapt(model, state, same_names, part="layer")


@pytest.fixture
def state(tmp_path: Path) -> dict[str, torch.Tensor]:
    state = {"weight": torch.ones(3, 2, dtype=torch.float16), "bias": torch.zeros(3)}
    save_file(state, tmp_path / FILE, origin_text(("MIT",)))
    return state


def test_a_file_becomes_a_model_that_knows_where_it_came_from(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    loaded = load_model(tmp_path / FILE, build, fill, family="f")
    assert not loaded.model.training
    assert torch.equal(loaded.model.weight, state["weight"])
    assert loaded.model.weight.dtype == torch.float16
    assert (loaded.licences, loaded.family, loaded.report.loaded) == (("MIT",), "f", 2)
    with pytest.raises(Fatal, match="pins 0000"):
        load_model(tmp_path / FILE, build, fill, sha256="0" * 64)


def test_other_entries_of_a_file_are_in_the_report(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    torch.save({**state, "epoch": 3}, tmp_path / "m.ckpt")
    assert load_model(tmp_path / "m.ckpt", build, fill).report.dropped == ("epoch (int)",)


def test_what_no_adapter_filled_is_found(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    nothing = LoadReport("layer", 0, {}, ())
    with pytest.raises(Fatal, match="2 tensors got no weights"):
        load_model(tmp_path / FILE, build, lambda model, state: nothing)


def test_one_file_of_our_own_in_its_own_precision_or_another(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    kept = load_own(str(tmp_path / FILE), build, "layer")
    assert (kept.model.weight.dtype, kept.model.bias.dtype) == (torch.float16, torch.float32)
    assert kept.licences == ("MIT",)
    cast = load_own(str(tmp_path / FILE), build, "layer", dtype=torch.bfloat16)
    assert {p.dtype for p in cast.model.parameters()} == {torch.bfloat16}
    with pytest.raises(Fatal, match="layer: weight has shape"):
        load_own(str(tmp_path / FILE), lambda: nn.Linear(5, 3), "layer")


def test_the_digest_of_several_files_is_over_all_of_them() -> None:
    def of(digests: dict[str, str]) -> str:
        return LoadedParts(build(), (), digests, (), ()).digest

    assert of({"a": "1", "b": "2"}) == of({"b": "2", "a": "1"})
    assert of({"a": "1", "b": "2"}) != of({"a": "2", "b": "1"})
    assert len(of({"a": "1"})) == 64
