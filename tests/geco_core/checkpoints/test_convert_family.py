"""Published files of every family become one file of ours with equal tensors and a full account."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from geco_core.checkpoints import convert_family as module
from geco_core.checkpoints.convert import record_path
from geco_core.checkpoints.convert_family import convert_family
from geco_core.checkpoints.crm_diffusion import load_crm_diffusion
from geco_core.checkpoints.families import (
    CRM_DIFFUSION,
    CRM_RECONSTRUCTOR,
    FAMILIES,
    FAMILY,
    PUBLISHED,
    WHITE_UNET,
)
from geco_core.checkpoints.instantmesh import build_reconstructor, load_reconstructor
from geco_core.checkpoints.origin import read_licences
from geco_core.checkpoints.refusals import CheckpointError, Refusal
from geco_core.checkpoints.safe import load_into, load_weights
from geco_core.checkpoints.state import digest_of
from geco_core.checkpoints.zero123plus import load_zero123plus
from geco_core.config.crm_system import CrmConfig
from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import ConfigError, Fatal
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.systems.chain import load_crm_chain
from tests.geco_core.checkpoints.published import chain_words, write_chain
from tests.geco_core.checkpoints.published_crm import crm_words, write_crm

TEXT = "text_model.embeddings.token_embedding.weight"
ALL_THREE = ["Apache-2.0", "CC-BY-NC-4.0", "CreativeML-OpenRAIL++-M"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_chain(folder)
    return folder


def sizes(folder: Path, kind: str = "mesh") -> InstantMeshConfig:
    return load(InstantMeshConfig, preset_path("instantmesh", "full"), chain_words(folder, kind))


@pytest.mark.parametrize("family", list(PUBLISHED))
def test_a_reconstructor_comes_back_equal(published: Path, family: str, tmp_path: Path) -> None:
    kind = family.split("-")[1]
    source, out = (
        published / "InstantMesh" / f"instant_{kind}_large.ckpt",
        tmp_path / "r.safetensors",
    )
    config = sizes(published, kind)
    record = convert_family(str(source), out, family, config)
    state = torch.load(source, weights_only=True)["state_dict"]
    (part,) = record["parts"]
    assert part["part"] == family
    assert part["renamed"] == {f"state_dict.{n}": n.removeprefix("lrm_generator.") for n in state}
    assert part["dropped"] == ("epoch (int)",)
    assert part["missing"] == ()
    assert json.loads(record_path(out).read_text()) == json.loads(json.dumps(record))
    assert read_licences(out) == ("Apache-2.0",)
    again = load_reconstructor(str(out), config.reconstructor)
    assert again.report.renamed == {}
    assert again.licences == ("Apache-2.0",)
    loaded = again.model.state_dict()
    assert len(loaded) == len(state)
    assert all(torch.equal(loaded[n.removeprefix("lrm_generator.")], v) for n, v in state.items())


@pytest.mark.parametrize("white", [False, True])
def test_a_pipeline_comes_back_equal_in_one_file(
    published: Path, tmp_path: Path, white: bool
) -> None:
    source, out = published / "zero123plus-v1.2", tmp_path / "views.safetensors"
    config, unet = sizes(published), str(published / "InstantMesh") if white else ""
    record = convert_family(str(source), out, FAMILY, config, white_unet=unet)
    parts = {part["part"]: part for part in record["parts"]}
    assert set(parts) == {"unet", "vae", "text_encoder", "vision_encoder"} == set(record["sources"])
    assert parts["text_encoder"]["renamed"][TEXT] == TEXT.removeprefix("text_model.")
    assert record["licences"] == (ALL_THREE if white else ALL_THREE[1:])
    own = load_weights(str(out))
    assert list(own.licences) == record["licences"]
    model = Zero123Plus(config.multiview)
    load_into(model, own, "views")
    first = load_zero123plus(str(source), config.multiview, white_unet=unet).model.state_dict()
    assert set(first) == set(own.tensors)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in first.items())


def test_a_white_unet_comes_back_equal(published: Path, tmp_path: Path) -> None:
    source, out = published / "InstantMesh", tmp_path / "white.safetensors"
    config = sizes(published)
    record = convert_family(str(source), out, WHITE_UNET, config)
    state = torch.load(source / "diffusion_pytorch_model.bin", weights_only=True)
    found = load_file(out)
    assert set(found) == set(state)
    assert all(torch.equal(found[n], v) for n, v in state.items())
    assert record["licences"] == ALL_THREE
    views = load_zero123plus(
        str(published / "zero123plus-v1.2"), config.multiview, white_unet=str(out)
    )
    assert views.digests["unet"] == record["sha256"]
    assert list(views.licences) == ALL_THREE


def test_crms_two_files_come_back_equal_in_one(tmp_path: Path) -> None:
    write_crm(tmp_path / "CRM")
    config = load(CrmConfig, preset_path("crm", "full"), crm_words(tmp_path / "CRM"))
    source, out = str(tmp_path / "CRM"), tmp_path / "views.safetensors"
    record = convert_family(source, out, CRM_DIFFUSION, config)
    parts = {part["part"]: part for part in record["parts"]}
    assert set(parts) == {"views", "vae", "text", "vision", "ccm"} == set(record["sources"])
    assert record["licences"] == ["CreativeML-OpenRAIL++-M", "MIT"]
    assert set(record["dtypes"]) >= {"float16", "float32"}
    assert "vae_model.decoder.conv_in.weight" in parts["ccm"]["dropped"]
    own, published = load_file(out), load_crm_diffusion(source, config.diffusion).model.state_dict()
    assert set(own) == set(published)
    assert all(torch.equal(own[name], value) for name, value in published.items())
    surface = tmp_path / "mesh.safetensors"
    assert convert_family(source, surface, CRM_RECONSTRUCTOR, config)["licences"] == ["MIT"]
    words = (f"weights.multiview={out}", f"weights.reconstructor={surface}")
    again = load(CrmConfig, preset_path("crm", "full"), [*crm_words(tmp_path / "CRM"), *words])
    loaded = load_crm_chain(again, torch.float32)
    assert loaded.licences == ("CreativeML-OpenRAIL++-M", "MIT")
    assert loaded.digest == f"{record['sha256']}+{digest_of(surface)}"


def test_sizes_of_another_system_are_refused(published: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    with pytest.raises(ConfigError, match="crm-diffusion is no part of the system instantmesh"):
        convert_family(str(published), out, CRM_DIFFUSION, sizes(published))
    crm = load(CrmConfig, preset_path("crm", "full"))
    with pytest.raises(ConfigError, match="instant-mesh-base is no part of the system crm"):
        convert_family(str(published / "InstantMesh"), out, "instant-mesh-base", crm)


def test_what_is_half_precision_stays_so(published: Path, tmp_path: Path) -> None:
    config = sizes(published)
    half = {n: v.half() for n, v in build_reconstructor(config.reconstructor).state_dict().items()}
    torch.save(
        {"state_dict": {f"lrm_generator.{n}": v for n, v in half.items()}}, tmp_path / "h.ckpt"
    )
    record = convert_family(
        str(tmp_path / "h.ckpt"), tmp_path / "h.safetensors", "instant-mesh-base", config
    )
    assert record["dtypes"] == {"float16": len(half)}


def test_without_sizes_the_published_ones_are_meant(published: Path, tmp_path: Path) -> None:
    source = str(published / "InstantMesh" / "instant_mesh_large.ckpt")
    for family in PUBLISHED:
        with pytest.raises(Fatal, match=f"^{family}: "):
            convert_family(source, tmp_path / "x.safetensors", family)
    assert {FAMILY, WHITE_UNET, *PUBLISHED, CRM_DIFFUSION, CRM_RECONSTRUCTOR} == set(FAMILIES)
    assert list(tmp_path.iterdir()) == []


def test_unusable_wishes_are_refused_first(published: Path, tmp_path: Path) -> None:
    out, source = tmp_path / "x.safetensors", str(published / "InstantMesh")
    with pytest.raises(ConfigError) as caught:
        convert_family(source, out, "instant-mesh-larg")
    assert "instant-mesh-large" in caught.value.remedy
    with pytest.raises(ConfigError, match="no U-Net to replace"):
        convert_family(source, out, "instant-mesh-base", white_unet=source)
    with pytest.raises(ConfigError, match="must end in"):
        convert_family(source, tmp_path / "x.bin", WHITE_UNET)
    with pytest.raises(CheckpointError) as refused:
        convert_family(source, out, WHITE_UNET, sizes(published), sha256="0" * 64)
    assert refused.value.refusal is Refusal.WRONG_DIGEST


def test_the_files_have_the_rights_of_any_other(published: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "x.safetensors", tmp_path / "other"
    convert_family(str(published / "InstantMesh"), out, WHITE_UNET, sizes(published))
    other.touch()
    modes = {path.stat().st_mode for path in (out, record_path(out), other)}
    assert len(modes) == 1
    assert {path.name for path in tmp_path.iterdir()} == {out.name, record_path(out).name, "other"}


def test_a_failed_write_leaves_nothing(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_safetensors", full)
    with pytest.raises(CheckpointError, match="No space left") as caught:
        convert_family(
            str(published / "InstantMesh"), tmp_path / "x.safetensors", WHITE_UNET, sizes(published)
        )
    assert caught.value.refusal is Refusal.NOT_WRITTEN
    assert list(tmp_path.iterdir()) == []


def test_a_distilled_unet_replaces_a_published_one(published: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from geco_core.checkpoints.origin import origin_text

    config = sizes(published)
    state = torch.load(published / "InstantMesh" / "diffusion_pytorch_model.bin", weights_only=True)
    texts = origin_text(("LicenseRef-Mine",), stage="stage1")
    save_file({f"unet.{n}": v for n, v in state.items()}, tmp_path / "w.safetensors", texts)
    views = load_zero123plus(
        str(published / "zero123plus-v1.2"),
        config.multiview,
        white_unet=str(tmp_path / "w.safetensors"),
    )
    assert torch.equal(views.model.unet.conv_in.weight, state["conv_in.weight"])
    assert set(views.licences) == {*ALL_THREE, "LicenseRef-Mine"}
