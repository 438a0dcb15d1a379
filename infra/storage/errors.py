"""What an error of the S3 client means for a run: gone, try again, or stop with a remedy.

Messages hold the operation, the key, the server's error code and status, and a cleaned text: no
query strings, no user part of a URL, nothing that stands in a credential variable. Errors of the
client library are not chained (`from None`), because their texts carry whole URLs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from geco_core.errors import Fatal, Retryable

STAGE = "store"
# Everything a call of the client, or reading an answer's body, may raise by itself.
CLIENT_ERRORS = (
    BotoCoreError,
    ClientError,
    HTTPError,
    HTTPException,
    OSError,
    ResponseParserError,
)
SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
MISSING = {"NoSuchKey", "NotFound", "404"}
_CREDENTIALS = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), and that they belong to "
    "the endpoint in s3.endpoint_url or AWS_ENDPOINT_URL_S3"
)
_EXPIRED = "get new credentials (AWS_SESSION_TOKEN has ended) and run the same command"
_RIGHTS = "grant the actions listed in docs/guide/storage.md to these credentials"
_SPACE = "free space or raise the quota, then run the same command"
_BUCKET = "create the bucket, or correct the s3:// address and s3.endpoint_url"
_REGION = "set s3.region or AWS_REGION to the bucket's region"
_REMEDIES = {
    "AccessDenied": _RIGHTS,
    "AllAccessDisabled": _RIGHTS,
    "AccountProblem": _RIGHTS,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "InvalidSecurity": _CREDENTIALS,
    "AuthorizationHeaderMalformed": _REGION,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "307": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "RequestTimeTooSkewed": "set the clock of this machine",
    "NoSuchBucket": _BUCKET,
    "InvalidBucketName": _BUCKET,
    "QuotaExceeded": _SPACE,
    "InsufficientStorage": _SPACE,
    "XMinioStorageFull": _SPACE,
    "XMinioAdminBucketQuotaExceeded": _SPACE,
    "NotImplemented": "this server lacks a request that the store needs",
    "501": "this server lacks a request that the store needs",
    "MethodNotAllowed": "this server lacks a request that the store needs",
    "EntityTooLarge": "make shards smaller: shard_size",
    "KeyTooLongError": "choose a shorter --out address",
}
# Statuses and codes below 500 that pass by themselves.
_PASSING_STATUS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
_PASSING = {
    "RequestTimeout",
    "RequestTimeoutException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "BadDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
    "NoSuchUpload",
    "InvalidPart",
    "OperationAborted",
    "ConditionalRequestConflict",
}
_BROKEN = (
    NoConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    ResponseParserError,
    HTTPError,
    HTTPException,
    OSError,
)
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "NoAuthTokenError",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "ConfigParseError",
    "ConfigNotFound",
}


def translated(error: Exception, verb: str, name: str) -> Exception:
    """The error to raise instead.

    Args:
        error: what boto3 or the socket under it raised.
        verb: what was tried, in words (`write`, `list`).
        name: bucket and key.

    Returns:
        KeyError (no such object), Fatal, Retryable; `error` itself when it is none of theirs.
    """
    if isinstance(error, ClientError):
        return _answered(error, verb, name)
    if isinstance(error, SSLError) and "CERTIFICATE" in str(error).upper():
        return _fatal(error, verb, name, "set AWS_CA_BUNDLE to the server's certificate authority")
    if isinstance(error, _BROKEN):
        return _retryable(f"{type(error).__name__}: {clean(str(error))}", verb, name)
    if type(error).__name__ in _NO_CREDENTIALS:
        return _fatal(error, verb, name, _CREDENTIALS)
    if type(error).__name__ == "CredentialRetrievalError":  # a metadata service out of breath
        return _retryable(f"CredentialRetrievalError: {clean(str(error))}", verb, name)
    if isinstance(error, (BotoCoreError, ValueError)):
        return _fatal(error, verb, name, "check s3.endpoint_url, s3.region and the s3:// address")
    return error


def error_code(error: ClientError) -> str:
    """`NoSuchKey`; the status as text where the answer had no body (HEAD)."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_status(error: ClientError) -> int:
    """HTTP status of the answer; 0 when unknown."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def clean(text: str) -> str:
    """A text without query strings, user parts of URLs and values of credential variables."""
    for variable in SECRET_VARIABLES:
        value = os.environ.get(variable)
        if value:
            text = text.replace(value, f"<{variable}>")
    text = re.sub(r"\?[^\s\"'<>]*", "", text)
    text = re.sub(r"://[^/\s@]*@", "://", text)
    return " ".join(text.split())[:300]


def _answered(error: ClientError, verb: str, name: str) -> Exception:
    code, status = error_code(error), error_status(error)
    if code in MISSING:
        return KeyError(name)
    message = clean(str(error.response.get("Error", {}).get("Message", "")))
    text = f"{code} (HTTP {status}) {message}".strip()
    if status == HTTPStatus.INSUFFICIENT_STORAGE:
        return _fatal(text, verb, name, _SPACE)
    if code in _REMEDIES:
        return _fatal(text, verb, name, _REMEDIES[code])
    if code in _PASSING or status in _PASSING_STATUS or status >= 500 or status < 300:
        return _retryable(text, verb, name)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return _fatal(text, verb, name, f"{_CREDENTIALS}; {_RIGHTS}")
    return _fatal(text, verb, name, "check s3.endpoint_url, s3.region and the s3:// address")


def _fatal(error: Exception | str, verb: str, name: str, remedy: str) -> Fatal:
    text = error if isinstance(error, str) else f"{type(error).__name__}: {clean(str(error))}"
    return Fatal(f"could not {verb} {name}: {text}".rstrip(), remedy=remedy, stage=STAGE)


def _retryable(text: str, verb: str, name: str) -> Retryable:
    return Retryable(
        f"could not {verb} {name}: {text}",
        remedy="run the same command again; check s3.endpoint_url and the network",
        stage=STAGE,
    )


def each_page(
    pages: Iterable[dict[str, Any]], failed: Callable[[Exception], Exception]
) -> Iterator[dict[str, Any]]:
    """Pages of a listing; a client's error on the way becomes what `failed` makes of it."""
    left = iter(pages)
    while True:
        try:
            page = next(left)
        except StopIteration:
            return
        except CLIENT_ERRORS as error:
            raise failed(error) from None
        yield page
