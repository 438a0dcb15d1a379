"""One command at a time: a living one is respected, a dead one is forgotten, a loss is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from geco_core.errors import ConfigError
from infra.claim import PATIENCE_S, Claim, alive
from infra.stages import CLAIM_KEY, put_claim
from infra.storage import LocalStorage


def test_a_living_command_is_respected(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with Claim(storage, "one", lambda: None):
        with pytest.raises(ConfigError, match="another command is at work"):
            Claim(storage, "two", lambda: None).__enter__()
        assert json.loads(storage.get(CLAIM_KEY))["token"] == "one"
    assert not storage.exists(CLAIM_KEY)
    with Claim(storage, "two", lambda: None):
        pass


def test_a_killed_command_of_this_machine_is_forgotten_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from infra.claim import Claim\nfrom infra.storage import LocalStorage\n"
        "with Claim(LocalStorage(Path(sys.argv[1])), 'one', lambda: None):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, check=False)
    storage = LocalStorage(tmp_path)
    assert json.loads(storage.get(CLAIM_KEY))["token"] == "one"
    with Claim(storage, "two", lambda: None):
        assert json.loads(storage.get(CLAIM_KEY))["token"] == "two"


def test_on_another_machine_the_age_tells() -> None:
    other: dict[str, Any] = {"host": "elsewhere", "pid": 1}
    assert alive(other, PATIENCE_S / 2)
    assert not alive(other, PATIENCE_S * 2)


def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with Claim(storage, "one", lambda: None):
        claim = json.loads(storage.get(CLAIM_KEY))
    assert alive(claim, 1e9)
    assert not alive(claim | {"process_started_at": claim["process_started_at"] - 100}, 0.0)


def test_a_command_notices_that_its_folder_was_taken(tmp_path: Path) -> None:
    storage, told = LocalStorage(tmp_path), threading.Event()
    with Claim(storage, "one", told.set, renew_every_s=0.05) as claim:
        put_claim(storage, {"token": "two"}, only_if_absent=False)
        assert told.wait(10)
        assert claim.lost
    assert json.loads(storage.get(CLAIM_KEY)) == {"token": "two"}, "what is another's stays"


def test_the_claim_is_renewed(tmp_path: Path) -> None:
    storage, times = LocalStorage(tmp_path), iter(range(1000))
    with Claim(storage, "one", lambda: None, wall=lambda: float(next(times)), renew_every_s=0.02):
        until = time.monotonic() + 10
        while json.loads(storage.get(CLAIM_KEY))["renewed_at"] < 3:
            assert time.monotonic() < until
            time.sleep(0.01)
