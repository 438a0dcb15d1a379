"""Each error of the client becomes what the run must do next; no message carries a secret."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable

import pytest
from botocore import exceptions as client_errors

from geco_core.config.run import S3Config
from geco_core.errors import ConfigError, Fatal, ForgeError, Retryable
from infra.storage import client as module
from infra.storage.client import resolve, s3_client
from infra.storage.errors import clean, translated
from infra.storage.s3 import S3Storage
from tests.support.s3_servers import S3Server, environment

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAFAKEFAKEFAKEFAKE",
    "AWS_SECRET_ACCESS_KEY": "fake+secret/with=signs0123456789abcdefghij",
    "AWS_SESSION_TOKEN": "fake-session-token-0123456789",
}


def answer(code: str, status: int, message: str = "text") -> client_errors.ClientError:
    response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return client_errors.ClientError(response, "PutObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "status", "kind", "remedy"),
    [
        ("NoSuchKey", 404, KeyError, ""),
        ("404", 404, KeyError, ""),
        ("NoSuchBucket", 404, Fatal, "create the bucket"),
        ("AccessDenied", 403, Fatal, "storage.md"),
        ("403", 403, Fatal, "AWS_ACCESS_KEY_ID"),
        ("InvalidAccessKeyId", 403, Fatal, "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", 403, Fatal, "AWS_SECRET_ACCESS_KEY"),
        ("ExpiredToken", 400, Fatal, "AWS_SESSION_TOKEN"),
        ("RequestTimeTooSkewed", 403, Fatal, "clock"),
        ("PermanentRedirect", 301, Fatal, "AWS_REGION"),
        ("QuotaExceeded", 403, Fatal, "quota"),
        ("Whatever", 507, Fatal, "free space"),
        ("InvalidArgument", 400, Fatal, "s3.endpoint_url"),
        ("SlowDown", 503, Retryable, "same command"),
        ("InternalError", 500, Retryable, "same command"),
        ("RequestTimeout", 400, Retryable, "same command"),
        ("BadDigest", 400, Retryable, "same command"),
        ("Throttled", 429, Retryable, "same command"),
    ],
)
def test_answers(code: str, status: int, kind: type[Exception], remedy: str) -> None:
    error = translated(answer(code, status), "write", "s3://b/k")
    assert type(error) is kind
    assert isinstance(error, KeyError) or remedy in error.remedy
    assert isinstance(error, KeyError) or code in error.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (client_errors.NoCredentialsError(), Fatal),
        (client_errors.PartialCredentialsError(provider="env", cred_var="x"), Fatal),
        (client_errors.ProfileNotFound(profile="p"), Fatal),
        (client_errors.ParamValidationError(report="bad bucket"), Fatal),
        (client_errors.SSLError(endpoint_url="x", error="CERTIFICATE_VERIFY_FAILED"), Fatal),
        (client_errors.SSLError(endpoint_url="x", error="EOF"), Retryable),
        (client_errors.ConnectTimeoutError(endpoint_url="https://h"), Retryable),
        (client_errors.ReadTimeoutError(endpoint_url="https://h"), Retryable),
        (client_errors.EndpointConnectionError(endpoint_url="https://h"), Retryable),
        (client_errors.IncompleteReadError(actual_bytes=1, expected_bytes=2), Retryable),
        (ConnectionResetError(errno.ECONNRESET, "reset"), Retryable),
    ],
)
def test_errors_without_an_answer(error: Exception, kind: type[Exception]) -> None:
    found = translated(error, "write", "s3://b/k")
    assert type(found) is kind
    assert isinstance(found, ForgeError)
    assert found.stage == "store"  # whatever was read or written: a status commits nothing
    # Whoever sees a passing fault sees the end of a command.
    assert found.remedy.startswith("run the same command again") is (kind is Retryable)


def test_texts_are_cleaned() -> None:
    with environment(SECRETS):
        values = " ".join(SECRETS.values())
        text = clean(f"GET https://user:pw@h/b/k?X-Amz-Signature=abc&x=1 failed: {values}")
    for part in (*SECRETS.values(), "Signature", "user", "pw"):
        assert part not in text
    assert "https://h/b/k failed" in text


VERBS: dict[str, Callable[[S3Storage], object]] = {
    "get": lambda store: store.get("x"),
    "put": lambda store: store.put_atomic("x", b"1", only_if_absent=True),
    "multipart": lambda store: store.put_atomic("x", bytes(17 << 20)),
    "list": lambda store: list(store.list("x")),
    "open": lambda store: store.open_for_pyarrow("x"),
}


@pytest.mark.parametrize("verb", list(VERBS))
def test_no_secret_reaches_a_traceback(rclone: S3Server, verb: str) -> None:
    """Wrong credentials, and a server that is not there: the whole traceback stays clean."""
    for endpoint, kind in ((rclone.endpoint_url, Fatal), ("http://127.0.0.1:9", Retryable)):
        with environment(rclone.env | SECRETS | {"AWS_ENDPOINT_URL_S3": endpoint}):
            config = S3Config(max_attempts=1, connect_timeout_s=2)
            with pytest.raises(kind) as caught:
                VERBS[verb](S3Storage("s3://bucket/run", config, conditional_put=True))
            text = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
            assert not [part for part in (*SECRETS.values(), "uploadId") if part in text]


def test_configuration_comes_before_environment() -> None:
    environ = {
        "AWS_ENDPOINT_URL": "http://third:1",
        "AWS_ENDPOINT_URL_S3": "http://second:1",
        "AWS_DEFAULT_REGION": "r2",
        "AWS_REGION": "r1",
    }
    found = resolve(S3Config(endpoint_url="http://first:1", region="r0"), environ)
    assert (found.url, found.region, found.path_style) == ("http://first:1", "r0", True)
    found = resolve(S3Config(path_style=False), environ)
    assert (found.url, found.region, found.path_style) == ("http://second:1", "r1", False)
    del environ["AWS_ENDPOINT_URL_S3"], environ["AWS_REGION"]
    assert resolve(S3Config(), environ).url == "http://third:1"
    assert resolve(S3Config(), environ).region == "r2"
    assert (resolve(S3Config(), {}).url, resolve(S3Config(), {}).path_style) == (None, False)


@pytest.mark.parametrize(
    "url", ["https://me:fake-password@host", "ftp://host", "host:9000", "http://host/?token=fake-1"]
)
def test_unusable_endpoints_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(S3Config(endpoint_url=url), {})
    assert "fake" not in str(caught.value)


def test_one_client_per_process_configuration_and_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_clients", {})
    with environment(SECRETS | {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}):
        first = s3_client(S3Config())
        assert s3_client(S3Config()) is first
        assert s3_client(S3Config(max_attempts=2)) is not first
        with environment({"AWS_SECRET_ACCESS_KEY": "another"}):
            assert s3_client(S3Config()) is not first
    assert not [value for value in SECRETS.values() if value in repr(module._clients)]
