"""Signals of real processes: one drains, two end it at once, and the handlers are put back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.stop import Stop
from workflows.drain import Interrupted, draining

ROOT = Path(__file__).parents[2]


def test_the_first_signal_asks_and_the_second_raises() -> None:
    stop = Stop(60)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught, draining(stop):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        assert not stop.abandon.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    assert caught.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_abandon_flag_is_raised_when_it_is_due() -> None:
    stop = Stop(0.4)
    with draining(stop):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.abandon.wait(5)


def test_other_threads_leave_the_handlers_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def run() -> None:
        with draining(Stop(1)):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def command(folder: Path, *words: str) -> list[str]:
    ids = [f"i{k}" for k in range(64)]
    pq.write_table(pa.table({"id": ids, "prompt": ids}), folder / "m.parquet")
    return [
        sys.executable, "-m", "workflows.cli", "generate", "--system", "noop",
        "--manifest", str(folder / "m.parquet"), "--out", str(folder / "run"),
        "thumbnail_size=0", "finish_isolation=inline", *words,
    ]  # fmt: skip


def started(words: list[str], folder: Path, files: int) -> subprocess.Popen[str]:
    """The command, once that many shards are committed."""
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while len(list((folder / "run" / "done").glob("*.json"))) < files:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    return process


def done(folder: Path) -> int:
    return len(list((folder / "run" / "done").glob("*.json")))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_inline_a_signal_ends_after_the_shard(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    words = command(tmp_path, "--engine", "inline", "shard_size=4", "model.generate_s=0.05")
    process = started(words, tmp_path, 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "a second signal stops at once" in err
    assert f"resume with: geco generate --system noop --manifest {tmp_path}" in err, out
    assert "Traceback" not in err
    assert 2 <= done(tmp_path) < 16
    assert not list((tmp_path / "run").glob("partial/**/*.parquet"))


def test_inline_rows_are_saved_when_the_shard_takes_too_long(tmp_path: Path) -> None:
    words = command(
        tmp_path, "--engine", "inline", "shard_size=32", "model.generate_s=0.1", "batch_size=1",
        "drain_timeout_s=0.4",
    )  # fmt: skip
    process = started(words, tmp_path, 1)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert done(tmp_path) == 1
    assert list((tmp_path / "run").glob("partial/**/*.parquet"))


def test_inline_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    words = command(
        tmp_path, "--engine", "inline", "shard_size=16", "model.generate_s=0.15", "batch_size=1"
    )
    process = started(words, tmp_path, 1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 5
    assert process.returncode == 130
    assert "Traceback" not in err


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("number", "code", "group"),
    [
        pytest.param(signal.SIGINT, 130, True, id="ctrl-c"),  # a terminal tells all processes
        pytest.param(signal.SIGTERM, 143, False, id="sigterm", marks=pytest.mark.slow),
    ],
)
def test_ray_a_signal_drains_and_the_same_command_resumes(
    tmp_path: Path, number: signal.Signals, code: int, group: bool
) -> None:
    words = command(
        tmp_path, "shard_size=16", "model.generate_s=0.2", "batch_size=1", "--workers", "1",
        "cluster.num_cpus=1", "drain_timeout_s=3",
    )  # fmt: skip
    process = started(words, tmp_path, 1)
    (os.killpg if group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=100)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert "worker_died" not in err
    assert done(tmp_path) + len(list((tmp_path / "run").glob("partial/**/*.parquet"))) >= 2, out
    again = command(tmp_path, "--engine", "inline", "model.generate_s=0.2", "shard_size=16")
    finished = subprocess.run(again, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert done(tmp_path) == 4
    assert not list((tmp_path / "run").glob("partial/**/*.parquet"))


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_ray_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    words = command(
        tmp_path, "shard_size=32", "model.generate_s=1.0", "batch_size=1", "--workers", "1",
        "cluster.num_cpus=1",
    )  # fmt: skip
    process = started(words, tmp_path, 0)
    assert process.stderr is not None
    while "worker_ready" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert time.monotonic() - begun < 15  # what Ray takes to shut down
