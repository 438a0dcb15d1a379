"""Objects of `s3://bucket/key`, read with the credentials of the environment.

The client is the store's own (one per process). When the manifest or `fetch.roots` name `s3://`
prefixes, only objects below them are read; without any, whatever the credentials can read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing

from geco_core.config.run import FetchConfig, S3Config
from geco_core.errors import Reason
from infra.fetch.problems import bad, passing, read_capped, shown, timed_out, too_many
from infra.storage.client import s3_client

_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NotFound", "NoSuchVersion"}
_CREDENTIALS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_PASSING = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "OperationAborted"}
_PASSING_STATUS = {408, 429}
_DENIED_STATUS = {401, 403}


class S3Source:
    """Reads `s3://` URIs. Thread-safe.

    Args:
        config: where the store is.
        limits: time.
        roots: `s3://` entries confine the objects; others are left out.
        max_bytes: largest object.
        clock: seconds.
    """

    def __init__(
        self,
        config: S3Config,
        limits: FetchConfig,
        roots: Sequence[str],
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._limits = limits
        self._roots = [root.rstrip("/") + "/" for root in roots if root.startswith("s3://")]
        self._max_bytes = max_bytes
        self._clock = clock

    def fetch(self, uri: str, item_id: str | None) -> bytes:
        """The bytes of an object.

        Raises:
            BadItem: not_found, access_denied, uri_refused, unsupported_input, too_many_bytes,
                fetch_failed.
            Retryable: the store or the way to it failed for the moment.
        """
        # Half a second that local runs do not pay.
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        bucket, key = self._parts(uri, item_id)
        try:
            answer = s3_client(self._config).get_object(Bucket=bucket, Key=key)
            with closing(answer["Body"]) as body:
                if answer["ContentLength"] > self._max_bytes:
                    raise too_many(uri, answer["ContentLength"], self._max_bytes, item_id)
                read = self._timed(uri, body.read, item_id)
                return read_capped(uri, read, self._max_bytes, item_id)
        except ClientError as error:
            # Not chained, here and below: the texts of the client library hold whole URLs.
            raise _refusal(uri, error, item_id) from None
        except (BotoCoreError, OSError) as error:
            raise _unanswered(uri, error, self._config.read_timeout_s, item_id) from None

    def _timed(
        self, uri: str, read: Callable[[int], bytes], item_id: str | None
    ) -> Callable[[int], bytes]:
        end = self._clock() + self._limits.timeout_s

        def reading(size: int) -> bytes:
            if self._clock() > end:
                raise timed_out(uri, self._limits.timeout_s, item_id)
            return read(size)

        return reading

    def _parts(self, uri: str, item_id: str | None) -> tuple[str, str]:
        bucket, _, key = uri.partition("://")[2].partition("/")
        if not bucket or not key:
            text = f"{shown(uri)} names no object"
            raise bad(text, Reason.UNSUPPORTED_INPUT, item_id, "write s3://bucket/key")
        plain = f"s3://{bucket}/{key}"
        inside = any(plain.startswith(root) for root in self._roots)
        # To S3 `..` is a name like any other; some servers and proxies go up for it.
        if self._roots and (not inside or ".." in key.split("/")):
            raise bad(
                f"{shown(uri)} lies outside the manifest's prefix and those of fetch.roots",
                Reason.URI_REFUSED,
                item_id,
                f"""to read from there, add 'fetch.roots=["s3://{shown(bucket)}"]'""",
            )
        return bucket, key


def _refusal(uri: str, error: Exception, item_id: str | None) -> Exception:
    """The error for an answer of the store."""
    from botocore.exceptions import ClientError  # noqa: PLC0415

    from infra.storage.errors import error_code, error_status  # noqa: PLC0415 - as above

    assert isinstance(error, ClientError)
    code, status = error_code(error), error_status(error)
    text = f"{shown(uri)}: the store answers {shown(code) or status}"
    if code in _CREDENTIALS:
        return bad(text, Reason.ACCESS_DENIED, item_id, "renew the credentials of the workers")
    if code in _PASSING or status in _PASSING_STATUS or status >= 500:
        return passing(text, item_id)
    if code in _MISSING or status == 404:
        return bad(text, Reason.NOT_FOUND, item_id, "correct bucket and key")
    if status in _DENIED_STATUS:
        return bad(text, Reason.ACCESS_DENIED, item_id, "let the workers' role read the object")
    return bad(text, Reason.FETCH_FAILED, item_id, "correct bucket, key and s3.* settings")


def _unanswered(uri: str, error: Exception, seconds: float, item_id: str | None) -> Exception:
    """The error for a request that was never sent, or never answered to the end."""
    from botocore import exceptions  # noqa: PLC0415

    name = type(error).__name__
    if isinstance(error, (exceptions.ReadTimeoutError, exceptions.ConnectTimeoutError)):
        return timed_out(uri, seconds, item_id)
    network = (
        OSError,
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        exceptions.ResponseStreamingError,
        exceptions.CredentialRetrievalError,
    )
    if isinstance(error, network):
        return passing(f"{shown(uri)}: the store does not answer: {name}", item_id)
    text = f"{shown(uri)} can not be asked for: {name}"
    if "Credential" in name or "Token" in name or "Profile" in name:
        remedy = "give the workers credentials: environment, profile or role"
        return bad(text, Reason.ACCESS_DENIED, item_id, remedy)
    reason = Reason.UNSUPPORTED_INPUT if "Validation" in name else Reason.FETCH_FAILED
    return bad(text, reason, item_id, "correct bucket, key and s3.* settings")
