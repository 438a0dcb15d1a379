"""Images over http and https: one guarded GET, capped in bytes, time and redirects.

The connection is opened here, to an address the guard has checked, and handed to `http.client`
ready; nothing resolves the name again, no proxy of the environment is asked, no cookie or
credential is sent. TLS is verified against the host of the URL. Bodies are asked for unencoded and
refused otherwise, so that a few kilobytes can not unfold into gigabytes.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from http import HTTPStatus
from urllib.parse import urljoin

from geco_core.config.run import FetchConfig
from geco_core.errors import Reason
from infra.fetch.deadline import Deadline
from infra.fetch.guard import Target, UrlGuard
from infra.fetch.problems import bad, passing, read_capped, shown, timed_out, too_many

_REDIRECTS = {301, 302, 303, 307, 308}
_GONE = {404, 410}
_DENIED = {401, 403, 407, 451}
_PASSING = {408, 423, 425, 429}
_HEADERS = {
    "Accept": "image/*,*/*;q=0.1",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": "geco-forge",
}
_FAULTS = (OSError, http.client.HTTPException, ValueError)


class HttpSource:
    """Reads http and https URLs. Thread-safe: a connection per source.

    Args:
        config: limits and permissions.
        max_bytes: largest body.
        guard: what decides about URLs and addresses.
        tls: how certificates are verified; by default against the system's authorities.
    """

    def __init__(
        self,
        config: FetchConfig,
        max_bytes: int,
        guard: UrlGuard | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._config = config
        self._max_bytes = max_bytes
        self._guard = guard or UrlGuard(config)
        self._tls = tls or ssl.create_default_context()

    def fetch(self, url: str, item_id: str | None) -> bytes:
        """The body behind a URL.

        Raises:
            BadItem: not_found, access_denied, uri_refused, unsupported_input, too_many_bytes,
                fetch_failed.
            Retryable: the server or the way to it failed for the moment.
            FetchTimeout: it took longer than `timeout_s`.
        """
        with Deadline(self._config.timeout_s) as deadline:
            try:
                data = self._follow(url, deadline, item_id)
            except ssl.SSLCertVerificationError as error:
                text = f"{shown(url)}: the certificate is not valid: {error.verify_message}"
                remedy = "correct the host, or add the authority to the system's certificates"
                raise bad(text, Reason.FETCH_FAILED, item_id, remedy) from error
            except _FAULTS as error:
                if deadline.expired:
                    raise timed_out(url, deadline.seconds, item_id) from error
                if isinstance(error, TimeoutError):
                    raise timed_out(url, self._config.connect_timeout_s, item_id) from error
                detail = f"{shown(url)} failed: {_words(error)}"
                raise passing(detail, item_id) from error
            if deadline.expired:  # a body of unknown length ends wherever the deadline cut it
                raise timed_out(url, deadline.seconds, item_id)
            return data

    def _follow(self, url: str, deadline: Deadline, item_id: str | None) -> bytes:
        target = self._guard.check(url, item_id)
        for _ in range(self._config.max_redirects + 1):
            if deadline.expired:
                raise timed_out(url, deadline.seconds, item_id)
            connection = self._connection(target, deadline)
            try:
                headers = {"Host": target.host_header, **_HEADERS}
                connection.request("GET", target.path, headers=headers)
                with connection.getresponse() as response:
                    if response.status not in _REDIRECTS:
                        return self._body(target, response, item_id)
                    location = response.getheader("Location")
            finally:
                connection.close()
            target, url = self._redirected(target, url, location, item_id)
        text = f"{shown(url)}: more than {self._config.max_redirects} redirects"
        raise bad(text, Reason.URI_REFUSED, item_id, "raise fetch.max_redirects")

    def _redirected(
        self, target: Target, url: str, location: str | None, item_id: str | None
    ) -> tuple[Target, str]:
        try:
            # Headers come as Latin-1; what servers write there is UTF-8.
            following = urljoin(url, (location or "").encode("latin-1").decode("utf-8", "replace"))
        except ValueError:
            following = ""
        if not location or not following:
            text = f"{shown(url)} redirects to nowhere"
            raise bad(text, Reason.FETCH_FAILED, item_id, "correct the URL")
        found = self._guard.check(following, item_id)
        if target.scheme == "https" and found.scheme != "https":
            text = f"{shown(url)} redirects from https to {found.text}"
            raise bad(text, Reason.URI_REFUSED, item_id, "use a URL that stays with https")
        return found, following

    def _connection(self, target: Target, deadline: Deadline) -> http.client.HTTPConnection:
        """A connection to the first checked address that answers. Raises `OSError`."""
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.auto_open = 0  # it must never dial by name
        opened = self._dialled(target, deadline)
        try:
            deadline.watch(opened)
            if target.scheme == "https":
                opened = self._tls.wrap_socket(opened, server_hostname=target.host)
        except BaseException:
            opened.close()
            raise
        opened.settimeout(deadline.remaining_s() + 1.0)  # the deadline comes first
        connection.sock = opened
        return connection

    def _dialled(self, target: Target, deadline: Deadline) -> socket.socket:
        failure: OSError | None = None
        for address in target.addresses:
            limit_s = min(self._config.connect_timeout_s, deadline.remaining_s())
            try:
                return socket.create_connection((address, target.port), timeout=limit_s)
            except OSError as error:
                failure = error
        raise failure or OSError("no address")

    def _body(
        self, target: Target, response: http.client.HTTPResponse, item_id: str | None
    ) -> bytes:
        if response.status != HTTPStatus.OK:
            raise _refusal(target, response.status, item_id)
        encoding = (response.getheader("Content-Encoding") or "identity").strip().lower()
        if encoding not in ("identity", ""):
            text = f"{target.text} is sent encoded ({shown(encoding)}), which was not asked for"
            raise bad(text, Reason.FETCH_FAILED, item_id, "serve images without encoding")
        promised = response.length
        if promised is not None and promised > self._max_bytes:
            raise too_many(target.text, promised, self._max_bytes, item_id)
        data = read_capped(target.text, response.read1, self._max_bytes, item_id)
        if promised is not None and len(data) < promised:
            raise http.client.IncompleteRead(b"", promised - len(data))
        return data


def _refusal(target: Target, status: int, item_id: str | None) -> Exception:
    """The error of an answer other than 200."""
    text = f"{target.text} answers {status}"
    if status in _GONE:
        return bad(text, Reason.NOT_FOUND, item_id, "correct the URL")
    if status in _DENIED:
        return bad(text, Reason.ACCESS_DENIED, item_id, "use a URL that needs no login")
    if status in _PASSING or status >= 500:
        return passing(text, item_id)
    return bad(text, Reason.FETCH_FAILED, item_id, "correct the URL")


def _words(error: Exception) -> str:
    """An error without the texts of others, which may hold what the server sent."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
