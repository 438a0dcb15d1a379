"""Two commands at once on one run folder: no damage, and the second says what it found."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from infra.storage import LocalStorage, open_storage
from tests.chaos.kills import ROOT, generate_line
from tests.chaos.materials import item_ids, write_manifest
from tests.chaos.verdict import expectations, judge
from tests.support.s3_servers import environment, moto_server, rclone_server

ROWS = 96
WORDS = ("--system", "noop", "shard_size=4", "thumbnail_size=0", "finish_isolation=inline")
FOUND = re.compile(r"found already made by another command: (\d+) shard")
MADE = re.compile(r"made now: (\d+) item")
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def race(manifest: Path, out: str, *words: str) -> list[tuple[int, str]]:
    """Exit code and everything written by two commands started together."""
    line = generate_line(manifest, out, *WORDS, "model.generate_s=0.02", *words)
    both = [
        subprocess.Popen(
            line, cwd=ROOT, env=os.environ, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]  # fmt: skip
    return [(one.wait(), one.stdout.read() if one.stdout else "") for one in both]


def check(manifest: Path, out: str, folder: Path, ended: list[tuple[int, str]]) -> None:
    reference = folder / "reference"
    line = generate_line(manifest, str(reference), *WORDS, "model.generate_s=0.02")
    subprocess.run([*line, "--engine", "inline"], cwd=ROOT, check=True, capture_output=True)
    damage = judge(open_storage(out), expectations(LocalStorage(reference)))
    assert damage.total == damage.orphans == damage.torn == 0, damage.details
    texts = [text for _, text in ended]
    assert [code for code, _ in ended] == [0, 0], texts
    assert all("Traceback" not in text for text in texts)
    found = [int(m[1]) for text in texts if (m := FOUND.search(text))]
    assert found, texts
    assert sum(found) <= 2 * ROWS // 4
    for text in texts:
        assert f"{ROWS} of {ROWS} items: {ROWS} done" in text


@pytest.mark.parametrize("name", ["local", "moto", pytest.param("rclone", marks=pytest.mark.slow)])
@pytest.mark.parametrize("engine", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_two_commands_on_one_folder(name: str, engine: str, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "manifest.parquet", item_ids(ROWS))
    words = ("--engine", engine, *(("--workers", "1") if engine == "ray" else ()))
    if name == "local":
        out = str(tmp_path / "run")
        check(manifest, out, tmp_path, race(manifest, out, *words))
        return
    start = {"moto": moto_server, "rclone": rclone_server}[name]
    with start(tmp_path / name) as server, environment(server.env):
        out = server.create_bucket("bucket") + "/run"
        ended = race(manifest, out, *words)
        check(manifest, out, tmp_path, ended)
        if server.conditional_put:  # every shard has exactly one maker
            made = sum(int(m[1]) for _, text in ended if (m := MADE.search(text)))
            assert made == ROWS, ended
