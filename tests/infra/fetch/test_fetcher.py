"""The one door: schemes go to their readers, and the rest is refused with a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from geco_core.config.run import FetchConfig, S3Config
from geco_core.errors import BadItem, ConfigError, Reason
from infra.fetch import Fetcher, check_config
from infra.fetch.problems import shown
from tests.corpus.web import PICTURE, serving


def fetcher(config: FetchConfig, *roots: object, max_bytes: int = 1 << 20) -> Fetcher:
    return Fetcher(config, S3Config(), roots=[str(root) for root in roots], max_bytes=max_bytes)


@pytest.mark.parametrize(
    ("source", "schemes", "reason", "text"),
    [
        ("data:image/png;base64,AAAA", ("file",), Reason.URI_REFUSED, "binary column"),
        ("DATA:,x", ("file",), Reason.URI_REFUSED, "binary column"),
        ("http://x.org/a", ("file", "s3"), Reason.URI_REFUSED, "'fetch.schemes=[file,s3,http]'"),
        ("https://x.org/a", ("file",), Reason.URI_REFUSED, "'fetch.schemes=[file,https]'"),
        ("s3://b/k", ("file",), Reason.URI_REFUSED, "'fetch.schemes=[file,s3]'"),
        ("a.png", ("s3",), Reason.URI_REFUSED, "'fetch.schemes=[s3,file]'"),
        ("file:///a.png", ("s3",), Reason.URI_REFUSED, "'fetch.schemes=[s3,file]'"),
        ("ftp://x.org/a", ("file",), Reason.URI_REFUSED, "copy the images"),
        ("gopher://x.org/a", ("file",), Reason.URI_REFUSED, "copy the images"),
        ("/a\x00b", ("file",), Reason.UNSUPPORTED_INPUT, "check the manifest"),
        ("s3://", ("s3",), Reason.UNSUPPORTED_INPUT, "s3://bucket/key"),
        ("s3://bucket", ("s3",), Reason.UNSUPPORTED_INPUT, "s3://bucket/key"),
        ("s3:///key", ("s3",), Reason.UNSUPPORTED_INPUT, "s3://bucket/key"),
    ],
)
def test_refused_sources(source: str, schemes: tuple[str, ...], reason: Reason, text: str) -> None:
    with pytest.raises(BadItem) as caught:
        fetcher(FetchConfig(schemes=schemes), "/").fetch(source, "i1")
    assert caught.value.reason is reason
    assert caught.value.item_id == "i1"
    assert caught.value.stage == "fetch"
    assert text in caught.value.remedy


def test_files_and_urls_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"abc")
    with serving() as server:
        config = FetchConfig(
            schemes=("file", "http"), allow_hosts=("127.0.0.1",), http_ports=(server.port,)
        )
        reads = fetcher(config, tmp_path)
        assert reads.fetch(str(tmp_path / "a.png")) == b"abc"
        assert reads.fetch(server.url("picture.png")) == PICTURE


@pytest.mark.parametrize(
    "config",
    [
        FetchConfig(roots=("images",)),
        FetchConfig(roots=("",)),
        FetchConfig(roots=("~/images",)),
        FetchConfig(allow_hosts=("no host",)),
    ],
)
def test_settings_no_worker_could_use(config: FetchConfig) -> None:
    with pytest.raises(ConfigError, match="fetch") as caught:
        check_config(config)
    assert caught.value.remedy
    check_config(FetchConfig(roots=("/data", "s3://b/p"), allow_hosts=("10.0.0.1", "*.x.org")))


def test_declared_roots_count_beside_the_manifests(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_bytes(name.encode())
    reads = fetcher(FetchConfig(roots=(str(tmp_path / "b"),)), tmp_path / "a")
    assert reads.fetch(str(tmp_path / "a" / "x")) == b"a"
    assert reads.fetch(str(tmp_path / "b" / "x")) == b"b"
    with pytest.raises(BadItem, match="outside"):
        reads.fetch(str(tmp_path / "c" / "x"))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("https://u:p@x.org/a.png?X-Amz-Signature=1#f", "https://x.org/a.png"),
        ("https://x.org?key=1", "https://x.org"),
        ("https://x.org/a@b", "https://x.org/a@b"),
        ("s3://b/k?versionId=1", "s3://b/k"),
        ("/a/b?c#d", "/a/b?c#d"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,..."),
        ("a\nb\ud800", "a\\nb\\ud800"),
        ("x" * 500, "x" * 200 + "..."),
    ],
)
def test_messages_hold_no_secrets(source: str, text: str) -> None:
    assert shown(source) == text
