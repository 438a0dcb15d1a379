"""Addresses: which ones open a store, and what the refusal of the others says."""

from __future__ import annotations

import pytest

from geco_core.errors import ConfigError
from infra.storage import LocalStorage, open_storage


@pytest.mark.parametrize("address", ["", " ", "s3:/bucket/run", "S3:bucket", "s3://", "ftp://h/x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_storage(address)
    assert "s3://bucket/folder" in caught.value.remedy


def test_a_local_name_may_look_like_a_scheme(tmp_path: object) -> None:
    assert open_storage(f"{tmp_path}/s3:x").uri == f"{tmp_path}/s3:x"
    assert isinstance(open_storage(f"file://{tmp_path}"), LocalStorage)


@pytest.mark.parametrize(
    "address", ["s3://AKIA:hidden@bucket/run", "https://me:hidden@host/run?X-Amz-Signature=hidden"]
)
def test_credentials_in_an_address_are_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_storage(address)
    assert "hidden" not in f"{caught.value.message} {caught.value.remedy}"
