"""Teacher targets on disk: columns of an output row, a content-addressed store, and a reader."""

from infra.targets.columns import TARGET_SCHEMA
from infra.targets.store import TargetStore
from infra.targets.table import TargetTable

__all__ = ["TARGET_SCHEMA", "TargetStore", "TargetTable"]
