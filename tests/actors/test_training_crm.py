"""Training sets on stores: on disk and in a bucket."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.training_crm import StoredFiles, local_init, open_objects
from geco_core.config.run import S3Config
from geco_core.config.train import InitConfig
from geco_core.errors import BadItem, ConfigError, Fatal, Reason
from infra.storage import LocalStorage, open_storage
from tests.support.s3_servers import environment, moto_server
from tests.support.tiny_training import objects, tiny_training, written


def test_a_folder_on_disk(tmp_path: Path) -> None:
    folder = open_objects(tiny_training("ccm", written(tmp_path, 2)))
    assert [e.item_id for e in folder.train] == ["train-000000", "train-000001"]
    assert folder.read(folder.train[0]).ccms is not None
    assert len(list(folder.files.names())) == len(objects(2))


def test_files_that_are_missing_or_too_large(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/000.png").write_bytes(b"12345")
    files = StoredFiles(LocalStorage(tmp_path))
    assert files.read("a/000.png", 5) == b"12345"
    with pytest.raises(BadItem) as caught:
        files.read("a/000.png", 4)
    assert (caught.value.reason, caught.value.item_id) == (Reason.TOO_MANY_BYTES, "a")
    with pytest.raises(KeyError):
        files.read("a/001.png", 5)


def test_no_training_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no training set"):
        open_objects(tiny_training("views"))
    with pytest.raises(Fatal, match="no objects"):
        open_objects(tiny_training("views", str(tmp_path)))


def test_weights_on_disk_stay_where_they_are() -> None:
    init = InitConfig(network="a.pt", licences=("MIT",))
    assert local_init(init, S3Config()) == init


def test_a_prefix_of_a_bucket_reads_the_same(tmp_path: Path) -> None:
    with moto_server(tmp_path) as server:
        uri = server.create_bucket("objects")
        with environment(server.env):
            storage = open_storage(f"{uri}/set")
            for name, data in objects(2).items():
                storage.put_atomic(name, data)
            config = tiny_training("ccm", f"{uri}/set")
            stored = open_objects(config)
            local = open_objects(replace(config, data=written(tmp_path / "local", 2)))
            assert stored.digest == local.digest
            made, same = (f.read(f.train[1]) for f in (stored, local))
            assert np.array_equal(made.views, same.views)
