"""The guard in front of http and https: which URL may be asked for, and which address is dialled.

A URL is read once, strictly; its host is resolved once; every address it resolves to is checked;
and the connection goes to a checked address, never to the name again, so that a name which answers
differently the second time gains nothing. Redirects pass through the same guard.

`fetch.allow_hosts` names what may be reached: `images.example.org`, `*.example.org` (any depth
below, not the name itself), or addresses and networks (`10.2.0.7`, `10.2.0.0/16`). Empty means
every public host. Only an address named there may be other than public: a name alone does not do,
because what it resolves to is decided elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit

import idna

from geco_core.config.run import FetchConfig
from geco_core.errors import BadItem, ConfigError, Reason
from infra.fetch.addresses import Address, Network, admitted, closed, literal
from infra.fetch.problems import bad, passing, scheme_of, shown

Resolver = Callable[[str, int], Sequence[str]]

MAX_URL = 8192
PORTS = {"http": 80, "https": 443}
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]|[^\S ]")
_CORRECT = "correct the manifest"
_PATH_SAFE = "/%:@!$&'()*+,;=~-._"
_REFUSED_NAMES = (
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
    "instance-data",
    "instance-data.ec2.internal",
)


@dataclass(frozen=True)
class Target:
    """A checked URL: what to ask for, and the addresses it may be asked at.

    `path` includes the query; messages show `text` only.
    """

    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]
    text: str

    @property
    def host_header(self) -> str:
        """Value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


class UrlGuard:
    """Checks URLs by `config`. Thread-safe.

    Args:
        config: schemes, hosts and ports.
        resolver: host and port to addresses as text; the system's when None.
    """

    def __init__(self, config: FetchConfig, resolver: Resolver | None = None) -> None:
        self._config = config
        self._resolve = resolver or system_addresses
        self._networks, self._patterns = _allowed(config.allow_hosts)

    def check(self, url: str, item_id: str | None) -> Target:
        """The checked target of a URL.

        Raises:
            BadItem: uri_refused, unsupported_input (no URL), not_found (no such host).
            Retryable: the name could not be resolved now.
        """
        scheme = scheme_of(url)
        if scheme not in PORTS or scheme not in self._config.schemes:
            raise self._refused(
                url,
                f"{scheme or 'such'}:// is not among fetch.schemes",
                f"copy the images to a folder, or add {scheme} to fetch.schemes",
                item_id,
            )
        parts, port = self._split(url, item_id)
        host = self._host(url, parts, item_id)
        path = quote(parts.path or "/", safe=_PATH_SAFE)
        if parts.query:
            path += "?" + quote(parts.query, safe=_PATH_SAFE + "?")
        addresses = self._addresses(url, host, port, item_id)
        return Target(scheme, host, port, path, addresses, shown(url))

    def _split(self, url: str, item_id: str | None) -> tuple[SplitResult, int]:
        fault = "is not a URL"
        if len(url) > MAX_URL:
            fault = f"is longer than {MAX_URL} characters"
        elif _UNSAFE.search(url):
            fault = "holds white space, control characters or backslashes"
        else:
            try:
                url.encode()
                parts = urlsplit(url)
                port = PORTS[parts.scheme] if parts.port is None else parts.port
            except ValueError:
                parts, port = None, 0
            if parts is not None and parts.hostname:
                self._check_authority(url, parts, port, item_id)
                return parts, port
        raise bad(f"{shown(url)} {fault}", Reason.UNSUPPORTED_INPUT, item_id, _CORRECT)

    def _check_authority(
        self, url: str, parts: SplitResult, port: int, item_id: str | None
    ) -> None:
        if "@" in parts.netloc:
            raise self._refused(
                url, "it carries a user or password", "leave the user out of URLs", item_id
            )
        if port not in self._config.http_ports:
            listed = ", ".join(str(p) for p in self._config.http_ports)
            raise self._refused(
                url,
                f"port {port} is not among fetch.http_ports ({listed})",
                "add the port to fetch.http_ports",
                item_id,
            )

    def _host(self, url: str, parts: SplitResult, item_id: str | None) -> str:
        raw = parts.hostname or ""
        try:
            host = raw if ":" in raw else _normalised(raw)
            address = literal(host)
        except ValueError as error:
            raise self._refused(
                url, f"its host is not written plainly ({error})", "correct the host", item_id
            ) from error
        if address is not None:
            self._check_address(url, address, item_id)
            host = str(address)
        elif host in _REFUSED_NAMES:
            raise self._refused(url, f"{host} is a cloud's metadata service", _CORRECT, item_id)
        if self._config.allow_hosts and not self._listed(host, address):
            raise self._refused(
                url,
                f"{host} is not among fetch.allow_hosts",
                f"add {host} to fetch.allow_hosts",
                item_id,
            )
        return host

    def _listed(self, host: str, address: Address | None) -> bool:
        if address is not None:
            return any(address in network for network in self._networks)
        return any(
            host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))
            for pattern in self._patterns
        )

    def _addresses(self, url: str, host: str, port: int, item_id: str | None) -> tuple[str, ...]:
        if literal(host) is not None:
            return (host,)
        try:
            found = self._resolve(host, port)
        except socket.gaierror as error:
            text = f"{shown(url)}: {host} can not be resolved: {error.strerror}"
            if error.errno == socket.EAI_NONAME:
                raise bad(text, Reason.NOT_FOUND, item_id, "correct the host") from error
            raise passing(text, item_id) from error
        except (OSError, UnicodeError) as error:
            text = f"{shown(url)}: {host} can not be resolved: {type(error).__name__}"
            raise passing(text, item_id) from error
        if not found:
            raise passing(f"{shown(url)}: {host} has no address", item_id)
        for text in found:
            self._check_address(url, ipaddress.ip_address(text), item_id)
        return tuple(dict.fromkeys(found))

    def _check_address(self, url: str, address: Address, item_id: str | None) -> None:
        why = closed(address)
        if why is not None and not admitted(address, self._networks):
            remedy = "an internal server is admitted by naming its address in fetch.allow_hosts"
            text = f"it leads to {address}, which is {why}"
            raise self._refused(url, text, remedy, item_id)

    def _refused(self, url: str, why: str, remedy: str, item_id: str | None) -> BadItem:
        return bad(f"{shown(url)} is refused: {why}", Reason.URI_REFUSED, item_id, remedy)


def system_addresses(host: str, port: int) -> list[str]:
    """Addresses of a host by the system's resolver. Raises `socket.gaierror`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def _normalised(host: str) -> str:
    """A host name in ASCII and lower case. Raises `ValueError`."""
    if not re.fullmatch(r"[\w.\-\u0080-\U0010ffff]+", host):
        raise ValueError("characters that no host has")
    name = host.removesuffix(".").lower()
    if not name.isascii():
        name = idna.encode(name, uts46=True).decode().removesuffix(".")
    if len(name) > 253 or any(not 0 < len(label) < 64 for label in name.split(".")):
        raise ValueError("an empty or overlong part")
    return name


def _allowed(entries: Sequence[str]) -> tuple[list[Network], list[str]]:
    """Networks and host patterns of `fetch.allow_hosts`. Raises `ConfigError`."""
    networks: list[Network] = []
    patterns: list[str] = []
    for entry in entries:
        try:
            networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            continue
        except ValueError:
            name = entry.removeprefix("*.")
        try:
            patterns.append(entry[: len(entry) - len(name)] + _normalised(name))
        except ValueError as error:
            raise ConfigError(
                f"fetch.allow_hosts: {entry!r} is neither a host nor an address",
                remedy="give names like images.example.org or *.example.org, or an address",
                stage="plan",
            ) from error
    return networks, patterns
