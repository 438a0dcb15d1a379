"""Shards given up are made again; nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from geco_core.errors import ConfigError
from infra.commit import done_key, part_key
from infra.plan import Plan
from infra.remake import remake_shards
from infra.run_state import done_shards, todo_shards
from infra.storage import LocalStorage
from tests.infra.made_run import commit, made_run


@pytest.fixture
def run(tmp_path: Path) -> tuple[LocalStorage, Plan]:
    return made_run(tmp_path)


def test_every_generation_of_the_shard_goes_and_no_other(run: tuple[LocalStorage, Plan]) -> None:
    storage, plan = run
    commit(storage, plan, 1, generation=1)
    others = {key for key in storage.list("") if "000001" not in key}
    assert len(list(remake_shards(storage, plan, [1, 1]))) == 2
    assert set(storage.list("")) == others
    assert todo_shards(storage, plan) == [1]
    assert list(remake_shards(storage, plan, [1])) == []


def test_a_dry_run_changes_nothing(run: tuple[LocalStorage, Plan]) -> None:
    storage, plan = run
    (action,) = remake_shards(storage, plan, [0], dry_run=True)
    assert done_key(0) in action.message
    assert part_key(0) in action.message
    assert 0 in done_shards(storage)
    assert storage.exists(part_key(0))


@pytest.mark.parametrize("shard", [-1, 99])
def test_unknown_shards_are_refused_before_anything_goes(
    run: tuple[LocalStorage, Plan], shard: int
) -> None:
    storage, plan = run
    with pytest.raises(ConfigError, match="no shard"):
        list(remake_shards(storage, plan, [0, shard]))
    assert 0 in done_shards(storage)
