"""How one of CRM's trainings is built where it trains: its data, its weights, its network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from actors.training_order import StageOrder
from geco_core.config.run import S3Config
from geco_core.config.train import CrmTrainingConfig, InitConfig
from geco_core.distill.build import Built
from geco_core.distill.world import World
from geco_core.errors import BadItem, ConfigError, Reason
from geco_core.training.crm_build import build_crm_training, pinned_training
from geco_core.training.crm_folder import CrmFolder
from infra.retry import retried
from infra.storage import Storage, open_storage
from infra.weights import cache_folder, local_weights

REFERENCES = ("network", "multiview", "reconstructor")


class StoredFiles:
    """`geco_core.training.crm_folder.Files` on a store. Any number of threads may read.

    Args:
        storage: of the training set; nothing is written there.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, name: str, max_bytes: int) -> bytes:
        """See `Files.read`.

        Raises:
            Fatal, Retryable: of the store.
        """
        return retried(lambda: self._read(name, max_bytes))

    def names(self) -> Iterator[str]:
        """See `Files.names`."""
        yield from retried(lambda: list(self._storage.list("")))

    def _read(self, name: str, max_bytes: int) -> bytes:
        with self._storage.open_for_pyarrow(name) as file:
            size = file.size()
            if size > max_bytes:
                raise BadItem(
                    f"{name} has {size} bytes, the limit is {max_bytes}",
                    reason=Reason.TOO_MANY_BYTES,
                    item_id=name.partition("/")[0],
                    stage="train",
                )
            return file.read(size)


def open_objects(config: CrmTrainingConfig) -> CrmFolder:
    """The training set of a configuration.

    Raises:
        ConfigError: none was given.
        Fatal: it holds no objects.
        Retryable: the store failed.
    """
    if not config.data:
        raise ConfigError(
            "no training set was given", stage="train", remedy="add --data FOLDER or s3://..."
        )
    files = StoredFiles(open_storage(config.data, config.s3))
    return CrmFolder(files, config.examples.heldout, config.examples.max_side)


def build_crm(order: StageOrder, world: World, storage: Storage) -> tuple[Built, dict[str, Any]]:
    """The training and the record of everything it depends on.

    Args:
        order: of one of CRM's trainings.
        world: the processes that train together.
        storage: of the stage's folder.

    Raises:
        ConfigError, Fatal: it can not be trained.
        Retryable: the store failed.
    """
    del storage
    config = order.config
    assert isinstance(config, CrmTrainingConfig)
    folder = open_objects(config)
    built = build_crm_training(config, folder, world, local_init(config.init, config.s3))
    record = {
        "order": pin_crm(order.stage, config),
        "data": {"rows": len(folder.train), "digest": folder.digest},
        "init": dict(built.init),
    }
    return built, record


def pin_crm(stage: str, config: CrmTrainingConfig) -> dict[str, Any]:
    """What of the configuration decides what the training makes."""
    del stage  # the configuration says it too
    return pinned_training(config)


def local_init(init: InitConfig, s3: S3Config) -> InitConfig:
    """The same with local paths for `s3://` weights. Raises as `infra.weights.local_weights`."""
    given = {name: getattr(init, name) for name in REFERENCES}
    local = {
        name: retried(lambda uri=uri: local_weights(uri, s3, cache_folder())) if uri else ""
        for name, uri in given.items()
    }
    return replace(init, **local)
