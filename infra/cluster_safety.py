"""Whether strangers can use a Ray cluster: it runs the code of everybody who is let in."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from dataclasses import dataclass

import ray

AUTH_VARIABLE = "RAY_AUTH_MODE"
PROBE_TIMEOUT_S = 20.0
_ANSWERED, _REFUSED = 0, 3

# A process of its own, because the mode of one that is connected can not be changed.
_PROBE = f"""
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError, RayError
try:
    GcsClient(address=sys.argv[1]).internal_kv_keys(b"", namespace=None, timeout=10)
except AuthenticationError:
    sys.exit({_REFUSED})
"""


@dataclass(frozen=True)
class Weakness:
    """What is open, and how to close it."""

    text: str
    remedy: str


def weaknesses_of_own(environment: dict[str, str] | None = None) -> list[Weakness]:
    """What is wrong with a cluster that we start; Ray's defaults are safe."""
    found = (os.environ if environment is None else environment).get(AUTH_VARIABLE, "")
    if found.lower() != "disabled":
        return []
    text = f"{AUTH_VARIABLE}=disabled: every process that reaches Ray's ports can run code here"
    return [Weakness(text, f"unset {AUTH_VARIABLE}")]


def weaknesses_of_joined() -> list[Weakness]:
    """What is wrong with the cluster this process is connected to."""
    address = ray.get_runtime_context().gcs_address
    return judge(address, answers_without_token(address), dashboard_address())


def judge(address: str, open_to_all: bool | None, dashboard: str) -> list[Weakness]:
    """Weaknesses of a cluster.

    Args:
        address: of the cluster, for the text.
        open_to_all: whether it answers without a token; None: nobody knows.
        dashboard: host:port of its dashboard; empty without one.
    """
    found = []
    if open_to_all:
        found.append(
            Weakness(
                f"the Ray cluster at {address} asks for no token: whoever reaches it can run code",
                "start it with RAY_AUTH_MODE=token on every node (`ray get-auth-token --generate`)",
            )
        )
    if dashboard and not is_loopback(dashboard):
        found.append(
            Weakness(
                f"the dashboard of the Ray cluster listens on {dashboard}",
                "start the head with --dashboard-host=127.0.0.1 and use an SSH tunnel",
            )
        )
    return found


def answers_without_token(address: str) -> bool | None:
    """Whether the cluster answers a client without a token; None when that can not be found out."""
    hidden = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            env={**environment, AUTH_VARIABLE: "disabled"},
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return {_ANSWERED: True, _REFUSED: False}.get(ended.returncode)


def dashboard_address() -> str:
    """host:port of the dashboard of the connected cluster; empty without one."""
    from ray._private.worker import get_dashboard_url  # noqa: PLC0415 - Ray has no public call

    return get_dashboard_url() or ""


def is_loopback(address: str) -> bool:
    """Whether host:port can only be reached from its own machine."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
