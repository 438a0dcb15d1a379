"""What a finishing process is given, and what is left of it."""

from __future__ import annotations

import pytest

from actors.finishing_process import ONE_THREAD, Gone, Kind, Nursery, child_environment

KIND = Kind("tests.actors.finishers:finish")


def test_the_environment_holds_no_credentials_and_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    given = child_environment()
    assert "secret" not in given.values()
    assert {given[name] for name in ONE_THREAD} == {"1"}
    assert given["CUDA_VISIBLE_DEVICES"] == ""
    assert "PATH" in given


def test_a_closed_nursery_is_gone() -> None:
    nursery = Nursery(KIND, 60.0)
    worker = nursery.fork(None)
    assert worker.alive
    nursery.close()
    with pytest.raises(Gone):
        nursery.fork(None)
    assert worker.end() is None


def test_ending_a_worker_twice_is_ending_it_once() -> None:
    nursery = Nursery(KIND, 60.0)
    worker = nursery.fork(256)
    assert worker.end() == worker.end() == -9
    assert nursery.fork(256).alive
    nursery.close()
