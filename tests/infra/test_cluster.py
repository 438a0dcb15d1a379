"""Folders of dead commands are swept; those of living ones are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from geco_core.config.run import ClusterConfig
from geco_core.errors import Fatal
from infra import cluster as module
from infra.cluster import cluster, private_folder

HOLD = """
import sys, time
from pathlib import Path
from infra.cluster import private_folder
with private_folder(Path(sys.argv[1])) as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


def test_the_folder_is_private_and_removed(tmp_path: Path) -> None:
    with private_folder(tmp_path / "geco") as folder:
        assert folder.is_dir()
        assert (tmp_path / "geco").stat().st_mode & 0o077 == 0
    assert list((tmp_path / "geco").iterdir()) == []


def test_only_folders_of_dead_processes_are_swept(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    theirs = Path(holder.stdout.readline().decode().strip())
    with private_folder(tmp_path) as ours:
        assert theirs.is_dir()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
        with private_folder(tmp_path):
            assert not theirs.exists()
            assert ours.is_dir()


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(Fatal, match="belongs to another user"), private_folder(tmp_path):
        pass


def test_a_ray_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(**_: Any) -> None:
        try:
            time.sleep(30)
        except TimeoutError:  # as a loop that retries would
            time.sleep(30)

    monkeypatch.setattr(module, "_ALARM_EVERY_S", 0.05)
    monkeypatch.setattr(module.ray, "init", hang)
    config = ClusterConfig(temp_dir=str(tmp_path), start_timeout_s=0.1)
    earlier = signal.setitimer(signal.ITIMER_REAL, 100)
    begun = time.monotonic()
    try:
        with pytest.raises(Fatal, match=r"no answer within 0\.1 s") as caught, cluster(config, {}):
            pass
        assert time.monotonic() - begun < 10
        assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] < 100  # the caller's alarm goes on
    finally:
        signal.setitimer(signal.ITIMER_REAL, *earlier)
    assert "engine=inline" in caught.value.remedy


def test_the_token_is_for_its_owner_only(tmp_path: Path) -> None:
    token = tmp_path / "auth_token"
    module._close_token(token)  # there is none yet
    token.write_text("secret")
    token.chmod(0o644)
    module._close_token(token)
    assert token.stat().st_mode & 0o777 == 0o600


def test_ray_inherits_the_variables_and_nobody_else_keeps_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("GECO_TEST", raising=False)
    with module._environment(ClusterConfig(), {"OMP_NUM_THREADS": "1", "GECO_TEST": "x"}):
        assert os.environ["OMP_NUM_THREADS"] == "1"
        assert os.environ["GECO_TEST"] == "x"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "GECO_TEST" not in os.environ
    with module._environment(ClusterConfig(address="h:1"), {"GECO_TEST": "x"}):
        assert "GECO_TEST" not in os.environ  # a runtime environment carries it


def test_the_sigterm_handler_of_the_caller_stays() -> None:
    def ours(*_: Any) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGTERM, ours)
    try:
        with module._own_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray would
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
