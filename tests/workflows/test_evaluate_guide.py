"""The commands of docs/guide/evaluation.md run as they are written."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workflows.noop_runs import geco, generate
from tests.workflows.test_evaluate import QUICK
from workflows import cli

GUIDE = Path(__file__).parents[2] / "docs/guide/evaluation.md"


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line]
    assert len(lines) == 4
    return lines


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs, references and tables under the names that the guide uses."""
    monkeypatch.chdir(tmp_path)
    ids = ["chair", "shoe"]
    pq.write_table(pa.table({"id": ids, "prompt": ids}), "m.parquet")
    for number, name in enumerate(("gso", "one-step", "teacher")):
        assert generate(Path("m.parquet"), f"runs/{name}", f"seed={number}") == cli.OK
    assert geco("export", "runs/teacher", "--out", "made", "--glb-folder") == cli.OK
    shutil.copytree("made/glb", "gso")
    Path("gso.csv").write_text("item_id,reference,azimuth_deg\nchair,gso/chair.glb,0\n")
    return tmp_path


def test_every_command_of_the_guide_runs(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in commands():
        words = shlex.split(line)
        assert words[0] == "geco"
        expected = cli.REFUSED if "--with" in words else cli.OK  # no weights lie here
        capsys.readouterr()
        assert geco(*words[1:], *QUICK) == expected, line
        if expected == cli.REFUSED:
            assert "hf download openai/clip-vit-large-patch14" in capsys.readouterr().err
    assert (workplace / "runs/gso/evaluation/crm.json").is_file()


def test_the_tables_of_the_guide_keep_up_with_the_code() -> None:
    from geco_core.evaluate.extras import EXTRAS
    from geco_core.evaluate.mesh_files import KINDS, MAX_BYTES, MAX_FACES
    from geco_core.evaluate.protocol import PROTOCOLS, Protocol
    from geco_core.evaluate.score import METRICS
    from geco_core.evaluate.summary import DRAWS
    from workflows.evaluate_rows import ItemState

    text = GUIDE.read_text()
    for name in (*EXTRAS, *PROTOCOLS, *ItemState, *(m for m in METRICS if m != "lpips_alex")):
        assert f"`{name}`" in text, name
    assert all(f"chair{kind}" in text for kind in KINDS)
    assert f"{MAX_BYTES >> 20} MiB and {MAX_FACES:,} faces" in text
    assert f"{Protocol().points:,} per surface" in text
    assert f"({DRAWS:,} draws" in text
    assert f"in {Protocol().yaw_steps} steps" in text
