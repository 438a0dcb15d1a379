"""Folders of dead commands are swept; those of living ones are not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from infra.cluster import private_folder

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
