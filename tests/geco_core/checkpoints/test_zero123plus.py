"""The Zero123++ adapter: every part at full size on the meta device, and whole tiny folders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from geco_core.checkpoints.adapter import skeleton
from geco_core.checkpoints.zero123plus import load_zero123plus, part_files
from geco_core.config.models import MultiViewConfig, UNetConfig
from geco_core.errors import Fatal
from geco_core.multiview.published import load_part, part_modules
from geco_core.multiview.zero123plus import Zero123Plus
from tests.geco_core.checkpoints.published import (
    TINY_VIEWS,
    inventory,
    part_state,
    write_pipeline,
)

PARTS = ("unet", "vae", "text_encoder", "vision_encoder")


@pytest.fixture(scope="module")
def tiny() -> Zero123Plus:
    torch.manual_seed(5)
    return Zero123Plus(TINY_VIEWS).eval()


@pytest.fixture
def folder(tiny: Zero123Plus, tmp_path: Path) -> Path:
    write_pipeline(tmp_path / "v1.2", tiny)
    return tmp_path / "v1.2"


@pytest.fixture(scope="module")
def full() -> Zero123Plus:
    with torch.device("meta"):
        return Zero123Plus(MultiViewConfig())


@pytest.mark.parametrize("part", PARTS)
def test_the_published_files_fit_at_full_size(full: Zero123Plus, part: str) -> None:
    state = inventory(f"zero123plus_{part}")
    report = load_part(full, part, state, assign=True)
    assert report.loaded == len(state) == len(part_modules(full)[part].state_dict())
    assert report.dropped == ()
    assert report.missing == ()
    stripped = {n: n.removeprefix("text_model.") for n in state if n.startswith("text_model.")}
    assert report.renamed == stripped
    assert bool(stripped) == (part == "text_encoder")


def test_the_parts_are_the_whole_model_at_full_size(full: Zero123Plus) -> None:
    """So a conversion to one file of ours loses nothing: only the ramp comes from elsewhere."""
    names = {
        name.removeprefix("text_model.") for p in PARTS for name in inventory(f"zero123plus_{p}")
    }
    ours = [name for name in full.state_dict() if name != "ramp"]
    assert len(ours) == sum(len(inventory(f"zero123plus_{part}")) for part in PARTS)
    heads = ("unet.", "codec.vae.", "text.", "vision.")
    assert all(any(n.removeprefix(h) in names for h in heads) for n in ours)


@pytest.mark.parametrize("part", PARTS)
def test_one_key_more_or_less_is_refused_at_full_size(full: Zero123Plus, part: str) -> None:
    state = inventory(f"zero123plus_{part}")
    last = list(state)[-1]
    with pytest.raises(Fatal, match="is missing"):
        load_part(full, part, {n: v for n, v in state.items() if n != last}, assign=True)
    with pytest.raises(Fatal, match="lora is unknown"):
        load_part(full, part, {**state, "lora": state[last]}, assign=True)


def test_a_skeleton_of_full_size_costs_nothing() -> None:
    model = skeleton(lambda: Zero123Plus(MultiViewConfig()))
    real = sum(t.numel() for t in [*model.parameters(), *model.buffers()] if not t.is_meta)
    assert sum(p.numel() for p in model.parameters()) > 1_900_000_000
    assert real < 100_000
    assert model.text.embeddings.position_ids.tolist() == [list(range(77))]


def test_a_folder_loads_as_it_was_saved(tiny: Zero123Plus, folder: Path) -> None:
    loaded = load_zero123plus(str(folder), TINY_VIEWS)
    assert [r.part for r in loaded.reports] == list(PARTS)
    ours, theirs = loaded.model.state_dict(), tiny.state_dict()
    for name, value in theirs.items():
        if name != "ramp":
            assert torch.equal(ours[name], value), name
    torch.testing.assert_close(loaded.model.ramp, torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1]))
    assert set(loaded.digests) == set(PARTS)
    again = load_zero123plus(str(folder), TINY_VIEWS, pins=loaded.digests)
    assert again.digest == loaded.digest
    with pytest.raises(Fatal, match="pins"):
        load_zero123plus(str(folder), TINY_VIEWS, pins={"vae": "0" * 64})
    assert loaded.families == ("zero123plus-v1.2",)
    assert not loaded.model.training
    pixels = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 8, 8)
    condition = loaded.model.encode_condition(*pixels)
    tiny_ramp = tiny.ramp.clone()
    tiny.ramp.copy_(loaded.model.ramp)
    assert torch.equal(condition.states, tiny.encode_condition(*pixels).states)
    tiny.ramp.copy_(tiny_ramp)


def test_the_white_unet_replaces_the_folders_own(tiny: Zero123Plus, folder: Path) -> None:
    white = {n: v + 1 for n, v in part_state(tiny, "unet").items()}
    torch.save(white, folder.parent / "diffusion_pytorch_model.bin")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    for reference in (folder.parent, folder.parent / "diffusion_pytorch_model.bin"):
        loaded = load_zero123plus(
            str(folder), TINY_VIEWS, white_unet=str(reference), dtype=torch.bfloat16
        )
        weight = loaded.model.unet.conv_in.weight
        assert torch.equal(weight, white["conv_in.weight"].bfloat16())
        assert loaded.families == ("zero123plus-v1.2", "instantmesh-white-unet")
    with pytest.raises(Fatal, match="unet/diffusion_pytorch_model"):
        load_zero123plus(str(folder), TINY_VIEWS)


def test_old_autoencoder_names_are_renamed(tiny: Zero123Plus, folder: Path) -> None:
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(path)
    for new, name in old.items():
        state = {
            k.replace(f"mid_block.attentions.0.{new}.", f"mid_block.attentions.0.{name}."): v
            for k, v in state.items()
        }
    save_file(state, path)
    loaded = load_zero123plus(str(folder), TINY_VIEWS)
    report = next(r for r in loaded.reports if r.part == "vae")
    assert report.renamed["encoder.mid_block.attentions.0.query.weight"] == (
        "encoder.mid_block.attentions.0.to_q.weight"
    )
    assert len(report.renamed) == 16
    assert torch.equal(
        loaded.model.state_dict()["codec.vae.decoder.mid_block.attentions.0.to_out.0.bias"],
        tiny.state_dict()["codec.vae.decoder.mid_block.attentions.0.to_out.0.bias"],
    )


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("unet/config.json", {"attention_head_dim": [2, 2]}, "attention_head_dim"),
        ("unet/config.json", {"attention_head_dim": [[1], [1]]}, "attention_head_dim"),
        ("unet/config.json", {"attention_head_dim": []}, "attention_head_dim"),
        ("scheduler/scheduler_config.json", {"prediction_type": "epsilon"}, "v_prediction"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "scaled_linear"}, "linear"),
        ("vae/config.json", {"scaling_factor": 0.13025}, "scaling_factor"),
        ("feature_extractor_vae/preprocessor_config.json", {"image_std": 0.5}, "image_std"),
        ("text_encoder/config.json", {"hidden_act": "quick_gelu"}, "hidden_act"),
        ("model_index.json", {"ramping_coefficients": None}, "ramping_coefficients"),
        ("model_index.json", {"ramping_coefficients": [0.1]}, "1 ramping coefficients for 5"),
    ],
)
def test_what_shapes_do_not_show_is_compared(
    folder: Path, name: str, change: dict[str, object], message: str
) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(Fatal, match=message):
        load_zero123plus(str(folder), TINY_VIEWS)


def test_broken_configurations_are_told(folder: Path) -> None:
    for text in ("{", "[]"):
        (folder / "model_index.json").write_text(text)
        with pytest.raises(Fatal, match=r"model_index\.json is not"):
            load_zero123plus(str(folder), TINY_VIEWS)


def test_another_preset_is_refused(folder: Path) -> None:
    unet = UNetConfig(**{**TINY_VIEWS.unet.__dict__, "layers_per_block": 2})
    with pytest.raises(Fatal, match=r"unet: .* is missing; .* and \d+ more"):
        load_zero123plus(str(folder), dataclasses.replace(TINY_VIEWS, unet=unet))


def test_absent_parts_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geco_core.checkpoints.hub.try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(Fatal) as caught:
        part_files("sudo-ai/zero123plus-v1.2")
    command = caught.value.remedy.partition("`")[2].partition("`")[0].split()
    assert command[:4] == ["hf", "download", "sudo-ai/zero123plus-v1.2", "model_index.json"]
    assert command[-2:] == ["--local-dir", "weights/zero123plus-v1.2"]
    for part in ("unet/diffusion_pytorch_model", "text_encoder/model", "scheduler/"):
        assert any(word.startswith(part) for word in command), part


def test_absent_weights_of_two_repositories_name_both_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("geco_core.checkpoints.hub.try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(Fatal) as caught:
        part_files("sudo-ai/zero123plus-v1.2", "TencentARC/InstantMesh")
    remedy = caught.value.remedy
    assert "unet/diffusion_pytorch_model" not in remedy
    assert (
        "`hf download TencentARC/InstantMesh diffusion_pytorch_model.bin "
        "--local-dir weights/InstantMesh`" in remedy
    )
    assert "vae/diffusion_pytorch_model.safetensors" in remedy


def test_parts_may_be_saved_in_shards(tiny: Zero123Plus, folder: Path) -> None:
    part = folder / "text_encoder"
    state = load_file(part / "model.safetensors")
    (part / "model.safetensors").unlink()
    names = sorted(state)
    halves = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for name, chosen in halves.items():
        save_file({n: state[n] for n in chosen}, part / name)
    found = {n: name for name, chosen in halves.items() for n in chosen}
    (part / "model.safetensors.index.json").write_text(json.dumps({"weight_map": found}))
    loaded = load_zero123plus(str(folder), TINY_VIEWS)
    for name, value in tiny.text.state_dict().items():
        assert torch.equal(loaded.model.text.state_dict()[name], value)
