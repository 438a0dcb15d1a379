"""Every command of docs/guide/walkthrough.md, as it is written there (see `tests.docs.pages`)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from geco_core.checkpoints.families import CRM_REPOSITORY, INSTANTMESH_REPOSITORY, REPOSITORY
from geco_core.config.load import build
from geco_core.config.run import RunConfig, model_overrides
from geco_core.systems import describe_system
from infra.environment import variables_set
from tests.docs.pages import (
    Transcript,
    blocks,
    in_process,
    in_shell,
    run_page,
    search_path,
    write_programs,
)
from tests.geco_core.checkpoints.published import tiny_chain, write_chain
from tests.geco_core.checkpoints.published_crm import tiny_crm_chain, write_crm
from tests.support.s3_servers import S3Server, moto_server

PAGE = Path(__file__).parents[2] / "docs/guide/walkthrough.md"
ALL = blocks(PAGE)
WITHOUT_DUCKDB = [block for block in ALL if "duckdb" not in block.text]
MODELS = {"instantmesh": tiny_chain(), "crm": tiny_crm_chain()}
TINY: dict[str, dict[str, Any]] = {
    system: {"model": model, "shard_size": 8, "workers": 1} for system, model in MODELS.items()
}
INLINE = {
    system: {**settings, "engine": "inline", "finish_isolation": "inline"}
    for system, settings in TINY.items()
}
REPOSITORIES = (REPOSITORY, INSTANTMESH_REPOSITORY, CRM_REPOSITORY)
CHAIRS, LAMPS, BROKEN = 20, 4, "chair-05"


@dataclass(frozen=True)
class Walk:
    """A reader's folder after the last command."""

    folder: Path
    transcript: list[Transcript]
    server: S3Server

    def output(self, start: str) -> str:
        """What the commands that start so printed."""
        found = [done.output for done in self.transcript if done.command.startswith(start)]
        assert found, f"the page has no {start!r}"
        return "\n".join(found)


def photograph(path: Path, shade: int) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[16:48, 20:40] = (200, shade, 20, 255)
    Image.fromarray(pixels, "RGBA").save(path)


def reader(folder: Path) -> None:
    """What a reader has: pictures, one of them damaged, and the same one undamaged elsewhere."""
    for name in ("photos", "better"):
        (folder / name).mkdir()
    for index in range(CHAIRS + LAMPS):
        kind = "chair" if index < CHAIRS else "lamp"
        photograph(folder / f"photos/{kind}-{index:02}.png", 40 + index)
    shutil.copy(folder / f"photos/{BROKEN}.png", folder / f"better/{BROKEN}.png")
    whole = (folder / f"photos/{BROKEN}.png").read_bytes()
    (folder / f"photos/{BROKEN}.png").write_bytes(whole[:-40])


def walk(
    folder: Path, geco: Callable[[str], Transcript], settings: dict[str, dict[str, Any]]
) -> Iterator[Walk]:
    """Run the page in an empty folder beside a server of its own."""
    standins, home = folder / "standins", folder / "home"
    write_chain(folder / "made")
    write_crm(folder / "made/CRM")
    for repo in REPOSITORIES:
        shutil.copytree(folder / "made" / repo.partition("/")[2], standins / repo)
    write_programs(folder / "bin")
    home.mkdir()
    reader(home)
    with moto_server(folder / "moto") as server, pytest.MonkeyPatch.context() as patch:
        server.create_bucket("assets")
        patch.chdir(home)
        environment = server.env | {
            "PATH": search_path(folder / "bin"),
            "STANDINS": str(standins),
            "GECO_CACHE_DIR": str(folder / "cache"),
        }
        with variables_set(environment):
            yield Walk(home, run_page(WITHOUT_DUCKDB, settings, geco), server)


def check_what_is_printed(walked: Walk) -> None:
    assert f"{CHAIRS} of {CHAIRS} items: {CHAIRS - 1} done, 1 failed" in walked.output(
        "geco generate --config run.yaml"
    )
    assert "made again: 1 row of 1 shard, 1 done now" in walked.output("geco retry")
    assert "runs/try/report/index.html" in walked.output("geco report")
    total = CHAIRS + LAMPS
    assert f"{total} of {total} items: {total} done" in walked.output("geco generate --config s3")
    assert "nothing wrong" in walked.output("geco verify")
    assert "12 s per item" in walked.output("geco plan --config run.yaml --manifest photos --sec")
    assert len(list((walked.folder / "dataset/glb").glob("*.glb"))) == total
    for line in ("unet: 208 tensors", "CC-BY-NC-4.0", "reconstructor"):
        assert line in walked.output("geco doctor --config run.yaml")
    assert f"{LAMPS} of {LAMPS} items: {LAMPS} done" in walked.output("geco generate --config crm")
    for line in (" views: ", " ccm: ", "the CRM reconstructor", "CreativeML-OpenRAIL++-M"):
        assert line in walked.output("geco doctor --config crm.yaml")


def check_licences_and_identities(walked: Walk) -> None:
    client = walked.server.client()
    body = client.get_object(Bucket="assets", Key="runs/photos/run.json")["Body"].read()
    system = json.loads(body)["system"]
    assert system["licences"] == ["Apache-2.0", "CC-BY-NC-4.0", "CreativeML-OpenRAIL++-M"]
    # Three parts, the index and the six configurations: the pipeline's own U-Net is not needed.
    assert system["weights"]["multiview_stored"].startswith("10 objects, ")
    assert system["weights"]["white_unet_stored"].startswith("1 object, ")
    assert system["weights"]["reconstructor_stored"].startswith("1 object, ")
    card = (walked.folder / "dataset/README.md").read_text()
    assert "CC-BY-NC-4.0" in card
    cached = {p.name for p in (walked.folder.parent / "cache").rglob("*.*") if p.is_file()}
    assert "model.safetensors" in cached
    assert "instant_nerf_large.ckpt" not in cached


def check_replaced_weights_are_refused(walked: Walk) -> None:
    client = walked.server.client()
    key = "weights/InstantMesh/instant_mesh_large.ckpt"
    old = client.get_object(Bucket="assets", Key=key)["Body"].read()
    client.put_object(Bucket="assets", Key=key, Body=old + b"\0")
    try:
        refused = in_process("geco generate --config s3.yaml")
    finally:
        client.put_object(Bucket="assets", Key=key, Body=old)
    assert refused.code == 2
    assert "reconstructor_stored" in refused.output
    assert in_process("geco generate --config s3.yaml").code == 0


def test_every_command_runs_and_does_what_the_page_says(tmp_path: Path) -> None:
    for walked in walk(tmp_path, in_process, INLINE):
        check_what_is_printed(walked)
        check_licences_and_identities(walked)
        check_replaced_weights_are_refused(walked)


def test_the_dataset_reads_with_duckdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("duckdb", reason="duckdb is not installed; the page shows it as a reader")
    (tmp_path / "dataset/data").mkdir(parents=True)
    rows = pa.table({"item_id": ["a", "b"], "mesh": [{"n_faces": 3}, {"n_faces": 5}]})
    pq.write_table(rows, tmp_path / "dataset/data/part-0.parquet")
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in ALL if "duckdb" in block.text]
    names: dict[str, object] = {}
    exec(compile(block.text, "page", "exec"), names)
    assert names["largest"] == [("b", 5), ("a", 3)]


def test_the_page_means_the_published_chain() -> None:
    for block in ALL:
        if block.language == "yaml":
            run = build(RunConfig, yaml.safe_load(block.text))
            full = describe_system(run.system, run.preset, model_overrides(run.model))
            if run.system == "crm":
                assert full["diffusion"]["ccm_sampler"]["steps"] == 50
                assert full["extraction"]["grid_res"] == 80
                continue
            assert full["sampler"]["steps"] == 75
            assert full["reconstructor"]["transformer_layers"] == 16
    text = PAGE.read_text()
    for repo in REPOSITORIES:
        assert f"hf download {repo} " in text
    assert {block.language for block in ALL} == {"bash", "yaml", "python"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_command_runs_as_a_program_of_its_own(tmp_path: Path) -> None:
    for done in walk(tmp_path, in_shell, TINY):
        assert "made again: 1 row of 1 shard, 1 done now" in done.output("geco retry")
        assert "nothing wrong" in done.output("geco verify")
