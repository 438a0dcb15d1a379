"""Blame needs a record made before the row ran alone."""

from __future__ import annotations

from pathlib import Path

from geco_core.errors import Reason
from infra.attempts import Attempts, Suspicion, after_crash, read_attempts, write_attempts
from infra.storage import LocalStorage

ALONE = Suspicion(row=7, item_id="i7", started_at=100.0)


def test_nobody_is_blamed_for_a_death_in_company() -> None:
    record = after_crash(Attempts(3), Reason.CRASHED, 105.0, 60.0)
    assert (record.crashes, record.blamed) == (1, {})


def test_the_row_that_ran_alone_is_blamed() -> None:
    record = after_crash(Attempts(3, 3, running=ALONE), Reason.CRASHED, 105.0, 60.0)
    assert record.crashes == 4
    assert record.blamed[7].reason is Reason.CRASHED
    assert record.running is None


def test_a_death_after_the_limit_is_a_time_out() -> None:
    record = after_crash(Attempts(3, 3, running=ALONE), Reason.CRASHED, 161.0, 60.0)
    assert record.blamed[7].reason is Reason.TIMED_OUT
    assert "60 s" in record.blamed[7].message


def test_the_limit_of_the_record_counts_more_than_the_item_limit() -> None:
    tight = Suspicion(row=7, item_id="i7", started_at=100.0, limit_s=5.0)
    record = after_crash(Attempts(3, 3, running=tight), Reason.CRASHED, 106.0, 60.0)
    assert record.blamed[7].reason is Reason.TIMED_OUT
    assert "5 s" in record.blamed[7].message
    record = after_crash(Attempts(3, 3, running=tight), Reason.CRASHED, 104.0, 60.0)
    assert record.blamed[7].reason is Reason.CRASHED


def test_lack_of_memory_stays_lack_of_memory() -> None:
    record = after_crash(Attempts(3, 3, running=ALONE), Reason.OUT_OF_MEMORY, 200.0, 60.0)
    assert record.blamed[7].reason is Reason.OUT_OF_MEMORY


def test_records_survive_the_store(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path)
    assert read_attempts(store, 3) == Attempts(3)
    record = after_crash(Attempts(3, 3, running=ALONE), Reason.CRASHED, 105.0, 60.0)
    for kept in (record, Attempts(3, 5, record.blamed, ALONE)):
        write_attempts(store, kept)
        assert read_attempts(store, 3) == kept
