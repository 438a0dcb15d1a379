"""`geco retry`: the rows of the chosen reasons are made again, all others keep their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from geco_core.errors import ConfigError, Reason, Retryable
from infra.commit import done_key, drop_generation, part_key
from infra.run_state import done_generations, read_state
from infra.storage import LocalStorage
from tests.workflows.noop_runs import INLINE, QUICK, geco, generate, image_manifest, png
from workflows import cli, retry
from workflows.retry import RetryWish

Capture = pytest.CaptureFixture[str]
AGAIN = (*INLINE, "finish_isolation=inline", "max_failure_rate=1")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Rows 2 and 3 (shard 0) and 7 (shard 1) fail as not_found, 5 as generation_failed."""
    out = tmp_path / "run"
    assert generate(image_manifest(tmp_path), out, "model.faults.i5=generate") == cli.OK
    return out


def rows(run: Path) -> dict[str, dict[str, Any]]:
    generations = done_generations(LocalStorage(run))
    tables = [pq.read_table(run / part_key(s, g)).to_pylist() for s, g in generations.items()]
    return {row["item_id"]: row for table in tables for row in table}


def provide(run: Path, *numbers: int) -> None:
    for number in numbers:
        (run.parent / f"img/{number}.png").write_bytes(png(number))


def test_only_rows_of_the_reason_are_made_again(run: Path, capsys: Capture) -> None:
    before = rows(run)
    provide(run, 2, 7)
    capsys.readouterr()
    assert geco("retry", run, "--reason", "not_found", *AGAIN) == cli.OK
    assert "made again: 3 rows of 2 shards, 2 done now" in capsys.readouterr().out
    after = rows(run)
    assert {k for k in after if after[k] != before[k]} >= {"i2", "i7"}
    assert all(after[k] == before[k] for k in before if k not in {"i2", "i3", "i7"})
    assert after["i2"]["status"] == after["i7"]["status"] == "done"
    assert after["i3"]["reason"] == "not_found"
    assert after["i5"]["reason"] == "generation_failed"
    assert done_generations(LocalStorage(run)) == {0: 1, 1: 1, 2: 0}
    assert sorted(p.name for p in (run / "assets").iterdir()) == [
        "part-000000-g1.parquet",
        "part-000001-g1.parquet",
        "part-000002.parquet",
    ]
    assert "| failed | 2 |" in (run / "README.md").read_text()
    assert geco("verify", run) == cli.OK
    assert geco("status", run) == cli.OK
    assert "retried  2 shards, up to generation 1" in capsys.readouterr().out


def test_a_retry_may_follow_a_retry(run: Path) -> None:
    provide(run, 2)
    assert geco("retry", run, "--all-failed", *AGAIN) == cli.OK
    provide(run, 3, 7)
    assert geco("retry", run, "--reason", "not_found", *AGAIN) == cli.OK
    assert done_generations(LocalStorage(run)) == {0: 2, 1: 2, 2: 0}
    assert read_state(LocalStorage(run)).reasons == {"generation_failed": 1}
    assert geco("retry", run, "--reason", "not_found", *AGAIN) == cli.OK
    assert done_generations(LocalStorage(run)) == {0: 2, 1: 2, 2: 0}
    assert geco("verify", run) == cli.OK


def test_the_bytes_are_those_of_a_run_without_failures(run: Path, tmp_path: Path) -> None:
    provide(run, 2, 3, 7)
    assert geco("retry", run, "--reason", "not_found", *AGAIN) == cli.OK
    whole = tmp_path / "whole"
    fault = "model.faults.i5=generate"
    assert generate(run.parent / "m.parquet", whole, fault) == cli.OK
    mended, undisturbed = rows(run), rows(whole)
    assert {k: r["glb"] for k, r in mended.items()} == {k: r["glb"] for k, r in undisturbed.items()}


def test_dry_run_counts_by_reason_and_changes_nothing(run: Path, capsys: Capture) -> None:
    before = sorted(LocalStorage(run).list(""))
    capsys.readouterr()
    assert geco("retry", run, "--all-failed", "--dry-run") == cli.OK
    text = capsys.readouterr().out
    assert "not_found            3 rows" in text
    assert "generation_failed    1 row" in text
    assert "4 rows of 2 shards would be made again, 4 others of these shards are kept" in text
    assert sorted(LocalStorage(run).list("")) == before


def test_nothing_to_retry_is_success(run: Path, capsys: Capture) -> None:
    assert geco("retry", run, "--reason", "crashed", *AGAIN) == cli.OK
    assert "nothing to make again: no row failed as crashed" in capsys.readouterr().out


def test_what_the_run_pins_can_not_be_changed(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert geco("retry", run, "--all-failed", *AGAIN, "seed=3") == cli.REFUSED
    assert "config.seed: 0 -> 3" in capsys.readouterr().err
    (tmp_path / "run.yaml").write_text("seed: 9\nsystem: instantmesh\nbatch_size: 1\n")
    words = ("--config", tmp_path / "run.yaml", "--all-failed", *AGAIN)
    assert geco("retry", run, *words) == cli.OK


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not_fund", "did you mean 'not_found'?"),
        ("xyz", "reasons: "),
        ("duplicate_id", "corrected manifest"),
        ("malformed_row", "corrected manifest"),
    ],
)
def test_reasons_that_can_not_be_retried_are_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RetryWish.parse([name], every=False)
    assert message in caught.value.remedy


def test_all_failed_means_every_reason_that_can_change() -> None:
    wish = RetryWish.parse((), every=True)
    assert Reason.TIMED_OUT in wish.reasons
    assert Reason.MALFORMED_ROW not in wish.reasons


def test_one_of_reason_and_all_failed_is_needed(run: Path, capsys: Capture) -> None:
    for words in ([], ["--reason", "not_found", "--all-failed"]):
        with pytest.raises(SystemExit) as ended:
            geco("retry", run, *words)
        assert ended.value.code == cli.REFUSED


@pytest.mark.parametrize("died", ["before the done record", "after it", "amid the removal"])
def test_a_killed_retry_is_finished_by_the_next(
    run: Path, died: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a death leaves of the old and the new generation, the next command puts right."""
    storage = LocalStorage(run)
    saved = {key: storage.get(key) for key in (part_key(0), done_key(0))}
    provide(run, 2, 3, 7)
    assert geco("retry", run, "--reason", "not_found", *AGAIN) == cli.OK
    storage.put_atomic(part_key(0), saved[part_key(0)])
    if died != "amid the removal":
        storage.put_atomic(done_key(0), saved[done_key(0)])
    if died == "before the done record":
        storage.delete(done_key(0, 1))
        assert done_generations(storage)[0] == 0
    assert len(rows(run)) == 10
    assert geco("verify", run) == cli.OK
    assert geco("retry", run, "--reason", "not_found", *AGAIN) == cli.OK
    assert done_generations(storage) == {0: 1, 1: 1, 2: 0}
    assert not storage.exists(part_key(0))
    assert {r["reason"] for r in rows(run).values()} == {None, "generation_failed"}


def test_a_store_that_fails_to_delete_costs_space_only(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise Retryable("try again")

    provide(run, 2, 3, 7)
    monkeypatch.setattr(retry, "drop_generation", fails)
    assert geco("retry", run, "--reason", "not_found", *AGAIN) == cli.OK
    storage = LocalStorage(run)
    assert storage.exists(part_key(0))
    assert read_state(storage).counts == {"done": 9, "failed": 1}
    monkeypatch.setattr(retry, "drop_generation", drop_generation)
    assert geco("repair", run) == cli.OK
    assert not storage.exists(part_key(0))


def test_a_retry_of_nothing_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert geco("retry", tmp_path, "--all-failed", *QUICK) == cli.REFUSED
    assert "there is no run" in capsys.readouterr().err
