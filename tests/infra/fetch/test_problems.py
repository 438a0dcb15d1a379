"""Reads are capped, and schemes are told from paths."""

from __future__ import annotations

import io

import pytest

from geco_core.errors import BadItem, Reason
from infra.fetch.problems import read_capped, scheme_of, shown


def test_reads_end_at_the_limit() -> None:
    assert read_capped("x", io.BytesIO(b"abc").read, 3, None, block_bytes=2) == b"abc"
    endless = iter(lambda: b"xx", None)
    with pytest.raises(BadItem) as caught:
        read_capped("x", lambda _: next(endless), 5, "i1", block_bytes=2)
    assert caught.value.reason is Reason.TOO_MANY_BYTES
    assert "6 bytes or more, the limit is 5" in caught.value.message


@pytest.mark.parametrize(
    ("source", "scheme"),
    [
        ("a/b.png", ""),
        ("", ""),
        ("://x", ""),
        ("1http://x", ""),
        ("a/b://c", ""),
        ("C:\\x", ""),
        ("HTTP://x", "http"),
        ("s3://b/k", "s3"),
        ("svn+ssh://x", "svn+ssh"),
        ("data:,x", "data"),
        ("ｈttp://x", ""),
    ],
)
def test_schemes(source: str, scheme: str) -> None:
    assert scheme_of(source) == scheme


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("https://me:hidden@h:8080/a@b?sig=hidden#x", "https://h:8080/a@b"),
        ("https://[::1]:80/a", "https://[::1]:80/a"),
        ("https://me:hid/hidden@h/a", "https://..."),
        ("https://me:hid?hidden@h/a", "https://..."),
        ("s3://bucket/a:b", "s3://bucket/a:b"),
    ],
)
def test_no_secret_of_a_source_is_shown(source: str, text: str) -> None:
    assert shown(source) == text
