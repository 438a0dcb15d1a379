"""What one command sees of another on the same run folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.order import WorkOrder
from actors.stop import Stop
from geco_core.config.run import RunConfig
from infra.plan import make_plan
from infra.storage import LocalStorage
from workflows.execute import execute
from workflows.generate import generate
from workflows.outcome import summary
from workflows.tally import Tally


def config(tmp_path: Path, **values: Any) -> RunConfig:
    ids = [f"i{k}" for k in range(16)]
    pq.write_table(pa.table({"id": ids, "prompt": ids}), tmp_path / "m.parquet")
    defaults: dict[str, Any] = {
        "system": "noop",
        "engine": "inline",
        "manifest": str(tmp_path / "m.parquet"),
        "out": str(tmp_path / "run"),
        "shard_size": 4,
        "thumbnail_size": 0,
        "finish_isolation": "inline",
    }
    return RunConfig(**(defaults | values))


def test_shards_that_another_command_committed_are_told_apart(tmp_path: Path) -> None:
    ours = config(tmp_path)
    assert generate(ours).adopted.shards_done == 0
    storage = LocalStorage(tmp_path / "run")
    done = tmp_path / "run" / "done" / "000001.json"
    part = tmp_path / "run" / "assets" / "part-000001.parquet"
    for path in (done, part):  # the other three are made by "another command"
        path.unlink()
    done_record = tmp_path / "run" / "done" / "000000.json"
    done_record.write_text(done_record.read_text().replace('"inline-', '"elsewhere-'))
    tally, order = Tally(1.0), WorkOrder((0, 1))
    footer_of_another_worker(storage, tmp_path)
    execute(ours, storage, make_plan(storage, ours), order, tally, time.monotonic, Stop())
    assert (tally.state.shards_done, tally.adopted.shards_done) == (2, 1)


def footer_of_another_worker(storage: LocalStorage, tmp_path: Path) -> None:
    """Rewrite part 0 as if a worker of another host had written it."""
    path = tmp_path / "run" / "assets" / "part-000000.parquet"
    table = pq.read_table(path)
    footer = dict(pq.read_schema(path).metadata)
    changed = {k: v.replace(b'"inline-', b'"elsewhere-') for k, v in footer.items()}
    assert changed != footer
    pq.write_table(table.replace_schema_metadata(changed), path)


def test_the_summary_says_what_was_found(tmp_path: Path) -> None:
    result = generate(config(tmp_path))
    result.adopted.shards_done, result.adopted.rows_done = 3, 12
    text = summary(result, str(tmp_path / "run"))
    assert "found already made by another command: 3 shards" in text
    assert "made now: 4 items" in text
