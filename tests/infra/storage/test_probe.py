"""The probe tells a server that keeps conditional writes from one that ignores or refuses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from geco_core.errors import Fatal
from infra.storage import LocalStorage
from infra.storage.client import s3_client
from infra.storage.probe import probe_conditional_put
from infra.storage.s3 import S3Storage
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.s3_servers import S3Server, environment


def test_the_servers_are_told_apart(store: S3Storage, server: S3Server) -> None:
    assert probe_conditional_put(store, "token") is server.conditional_put
    assert list(store.list("")) == []


def test_a_local_store_needs_no_probe(tmp_path: Path) -> None:
    assert probe_conditional_put(LocalStorage(tmp_path / "run"), "token")
    assert not (tmp_path / "run").exists()


def test_a_server_that_refuses_the_condition_is_used_without(
    moto_store: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ClientError

    client = s3_client(moto_store.config)
    real = client.put_object

    def strict(**arguments: object) -> object:
        if "IfNoneMatch" in arguments:
            answer = {
                "Error": {"Code": "NotImplemented", "Message": "header"},
                "ResponseMetadata": {"HTTPStatusCode": 501},
            }
            raise ClientError(answer, "PutObject")
        return real(**arguments)

    monkeypatch.setattr(client, "put_object", strict)
    assert not probe_conditional_put(moto_store, "token")
    assert list(moto_store.list("")) == []


def test_a_lost_answer_does_not_fool_the_probe(moto: S3Server, make_store) -> None:
    with environment(moto.env):
        store = make_store(moto)
    with fault_proxy(moto.port, [Fault("reset_after", method="PUT", times=1)]) as proxy:
        with environment(proxy.env):
            assert probe_conditional_put(store, "token")
        assert proxy.counts["reset_after"] == 1


def test_a_store_that_can_not_be_written_stops_here(rclone: S3Server, make_store) -> None:
    with environment(rclone.env):
        store = make_store(rclone)
        with environment({"AWS_SECRET_ACCESS_KEY": "wrong-and-invented"}):
            with pytest.raises(Fatal) as caught:
                probe_conditional_put(store, "token")
            assert "AWS_SECRET_ACCESS_KEY" in caught.value.remedy
