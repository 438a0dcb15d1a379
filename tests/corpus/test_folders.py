"""Every bad folder of weights ends in its error, from disk and from a bucket, and runs no code."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from geco_core.checkpoints.families import chain_weights
from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig
from geco_core.config.run import S3Config
from geco_core.errors import Fatal
from geco_core.systems.chain import load_chain
from infra.storage import open_storage
from infra.weights import local_overrides
from tests.corpus.folders import CASES, SECRET, Folder
from tests.geco_core.checkpoints.published import chain_words, write_chain
from tests.support.s3_servers import S3Server, environment, moto_server

HARM = Path("/tmp/harm")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write_chain(folder)
    shutil.copy(
        folder / "zero123plus-v1.2/vae/diffusion_pytorch_model.safetensors", folder / SECRET
    )
    return folder


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with moto_server(tmp_path_factory.mktemp("moto")) as server, environment(server.env):
        yield server


def changed(case: Folder, good: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    shutil.copytree(good, folder)
    case.change(folder)
    return folder


def settings(base: str, *words: str) -> InstantMeshConfig:
    """The tiny chain with its weights under `base`, which may be an address."""
    named = [w for w in chain_words(Path("/base")) if not w.startswith("weights.")]
    named += [
        f"weights.multiview={base}/zero123plus-v1.2",
        f"weights.white_unet={base}/InstantMesh",
        f"weights.reconstructor={base}/InstantMesh/instant_mesh_large.ckpt",
    ]
    return load(InstantMeshConfig, preset_path("instantmesh", "full"), [*named, *words])


def check(case: Folder, config: InstantMeshConfig) -> None:
    HARM.unlink(missing_ok=True)
    if case.text is None:
        load_chain(config, torch.float32)
    else:
        with pytest.raises(Fatal, match=case.text) as caught:
            load_chain(config, torch.float32)
        assert caught.value.remedy
    assert not HARM.exists()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_folder_on_disk(case: Folder, good: Path, tmp_path: Path) -> None:
    check(case, settings(str(changed(case, good, tmp_path))))


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if not c.linked], ids=lambda c: c.name)
def test_a_folder_in_a_bucket(case: Folder, good: Path, tmp_path: Path, moto: S3Server) -> None:
    folder = changed(case, good, tmp_path)
    uri = moto.create_bucket(f"folders-{len(moto.buckets)}")
    storage = open_storage(uri)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        storage.put_atomic(str(path.relative_to(folder)), path)
    config = settings(uri)
    fetched: list[str] = []

    def load_from_bucket() -> None:
        files = chain_weights(config).files
        weights, cache = vars(config.weights), tmp_path / "cache"
        fetched.extend(local_overrides(weights, S3Config(), cache, files))
        load_chain(settings(uri, *fetched), torch.float32)

    if case.text is None:
        load_from_bucket()
        return
    with pytest.raises(Fatal, match=f"{case.text}|there are no weights at") as caught:
        load_from_bucket()
    assert caught.value.remedy
    # What is not there at all is told by whoever looks into the bucket.
    assert bool(fetched) != ("there are no weights at" in caught.value.message)
    assert not HARM.exists()


def test_the_names_are_unique_and_many() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 45
