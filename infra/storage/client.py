"""How an S3 server is reached: endpoint, region and one client per process.

Credentials are found by boto3 in its standard places (environment, profile, web identity, instance
role); this project neither stores nor logs them. Clients are kept per process, because they hold
sockets and locks that must not cross a fork, and are made anew when the environment changes.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from geco_core.config.run import S3Config
from geco_core.errors import ConfigError

DEFAULT_REGION = "us-east-1"
POOL_CONNECTIONS = 24
_lock = threading.Lock()
_clients: dict[tuple[int, S3Config, str], Any] = {}


@dataclass(frozen=True)
class Endpoint:
    """Where a server is.

    Attributes:
        url: of an S3-compatible server; None for AWS.
        region: to sign for; None takes what the AWS profile says, then us-east-1.
        path_style: bucket in the path instead of the host name.
    """

    url: str | None
    region: str | None
    path_style: bool


def resolve(config: S3Config, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """Configuration first, environment second. Raises `ConfigError` for an unusable endpoint."""
    url = (
        config.endpoint_url or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    )
    if url:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"the S3 endpoint {parts.hostname or 'given'} is no http(s):// address",
                remedy="set s3.endpoint_url or AWS_ENDPOINT_URL_S3 to something like "
                "https://host:9000",
            )
        if parts.username or parts.password or parts.query:
            raise ConfigError(
                f"the S3 endpoint for {parts.hostname} carries credentials or a query",
                remedy="give the bare address; credentials go to AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY",
            )
    region = config.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    style = config.path_style if config.path_style is not None else bool(url)
    return Endpoint(url or None, region or None, style)


def s3_client(config: S3Config) -> Any:
    """This process's boto3 client for a configuration. Safe to share between threads."""
    key = (os.getpid(), config, environment_digest())
    with _lock:  # creating clients is not thread-safe, using them is
        if key not in _clients:
            _clients[key] = _create(config)
        return _clients[key]


def environment_digest() -> str:
    """Changes when any AWS_ variable does; tells nothing about their values."""
    lines = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("AWS_")]
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def _create(config: S3Config) -> Any:
    from boto3.session import Session  # noqa: PLC0415 - half a second that local runs do not pay
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    endpoint = resolve(config)
    options = Config(
        connect_timeout=config.connect_timeout_s,
        read_timeout=config.read_timeout_s,
        retries={"mode": "adaptive", "total_max_attempts": config.max_attempts},
        s3={"addressing_style": "path" if endpoint.path_style else "auto"},
        max_pool_connections=POOL_CONNECTIONS,
        tcp_keepalive=True,
        # Not every server knows the newer checksum trailers; bodies are checked by MD5 and length.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="geco-forge",
    )
    try:
        session = Session()
        region = endpoint.region or session.region_name or DEFAULT_REGION
        return session.client("s3", region_name=region, endpoint_url=endpoint.url, config=options)
    except (BotoCoreError, ValueError) as error:
        from infra.storage.errors import translated  # noqa: PLC0415 - it imports botocore

        raise translated(error, "reach S3", "") from None
