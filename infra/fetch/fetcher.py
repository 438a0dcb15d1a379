"""One door for every source: which reader it goes to, and which schemes are read at all."""

from __future__ import annotations

from collections.abc import Sequence

from geco_core.config.run import FetchConfig, S3Config
from geco_core.errors import ConfigError, Reason
from infra.fetch.guard import UrlGuard
from infra.fetch.http import HttpSource
from infra.fetch.local import LocalSource
from infra.fetch.problems import bad, scheme_of, shown
from infra.fetch.s3 import S3Source

_WEB = ("http", "https")


class Fetcher:
    """Reads sources within the limits of a run. Thread-safe.

    Args:
        config: `fetch.*` of the run.
        s3: `s3.*` of the run.
        roots: folders (or `s3://` prefixes) beside `config.roots` that sources may lie in: the
            manifest's own.
        max_bytes: largest source.
        guard: what decides about URLs; built from `config` when None.
    """

    def __init__(
        self,
        config: FetchConfig,
        s3: S3Config,
        *,
        roots: Sequence[str],
        max_bytes: int,
        guard: UrlGuard | None = None,
    ) -> None:
        everywhere = [*roots, *config.roots]
        self._config = config
        self._local = LocalSource(everywhere, config.roots, max_bytes)
        self._s3 = S3Source(s3, config, everywhere, max_bytes)
        # Reading the system's certificates takes time that runs without web sources need not spend.
        web = any(scheme in config.schemes for scheme in _WEB)
        self._http = HttpSource(config, max_bytes, guard) if web else None

    def fetch(self, source: str, item_id: str | None = None) -> bytes:
        """The bytes of a path or URI.

        Raises:
            BadItem: not_found, access_denied, uri_refused, unsupported_input, too_many_bytes,
                fetch_failed.
            Retryable: a fault that may be over soon; `FetchTimeout` when time ran out.
        """
        if "\x00" in source:
            raise bad(
                f"{shown(source)} contains a NUL byte",
                Reason.UNSUPPORTED_INPUT,
                item_id,
                "check the manifest",
            )
        scheme = scheme_of(source) or "file"
        if scheme not in self._config.schemes:
            raise bad(
                f"{shown(source)} is refused: {_why(scheme)}",
                Reason.URI_REFUSED,
                item_id,
                _remedy(scheme, self._config.schemes),
            )
        if scheme == "s3":
            return self._s3.fetch(source, item_id)
        if scheme in _WEB and self._http is not None:
            return self._http.fetch(source, item_id)
        return self._local.fetch(source, item_id)


def check_config(config: FetchConfig) -> None:
    """Refuse settings that no worker could use, before any work.

    Raises:
        ConfigError: a root that is not absolute, an entry of `allow_hosts` that is no host.
    """
    for root in config.roots:
        if not root.startswith(("/", "s3://")):
            raise ConfigError(
                f"fetch.roots: {root!r} is neither an absolute folder nor an s3:// prefix",
                remedy="workers run in other folders: give the whole path",
                stage="plan",
            )
    UrlGuard(config)


def fetch(source: str, *, max_bytes: int, item_id: str | None = None) -> bytes:
    """Read a local path or `file://` URI that the caller vouches for."""
    local = FetchConfig(schemes=("file",))
    return Fetcher(local, S3Config(), roots=("/",), max_bytes=max_bytes).fetch(source, item_id)


def _why(scheme: str) -> str:
    if scheme == "data":
        return "data: URIs are not read"
    known = scheme in (*_WEB, "file", "s3")
    return f"{shown(scheme)} is {'not among fetch.schemes' if known else 'no scheme that is read'}"


def _remedy(scheme: str, schemes: Sequence[str]) -> str:
    if scheme == "data":
        return "put the image bytes into a binary column instead"
    if scheme in (*_WEB, "file", "s3"):
        listed = ",".join([*schemes, scheme])
        return f"add 'fetch.schemes=[{listed}]', or copy the images to the manifest's folder"
    return "copy the images to the manifest's folder"
