"""Whatever happens to the files of a run, `repair` and then committing what is missing ends sound,
and no row that could be read before is lost on the way.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.commit import adopt_shard, done_key, part_key
from infra.plan import Plan
from infra.repair import repair_run
from infra.run_state import done_generations, todo_shards
from infra.storage import LocalStorage
from infra.verify import verify_run
from tests.infra.made_run import commit, made_run

SHARDS = range(3)
HARMS = ("lose done", "lose part", "tear part", "empty part", "tear done", "swap done", "retry")
harms = st.lists(st.tuples(st.sampled_from(HARMS), st.sampled_from(SHARDS)), max_size=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalStorage, Plan]:
    return made_run(tmp_path_factory.mktemp("made"))


def harm(storage: LocalStorage, plan: Plan, what: str, shard: int) -> None:
    generation = done_generations(storage).get(shard, 0)
    part, done = part_key(shard, generation), done_key(shard, generation)
    if what == "lose done":
        storage.delete(done)
    elif what == "lose part":
        storage.delete(part)
    elif what == "empty part":
        storage.put_atomic(part, b"")
    elif what == "tear part" and storage.exists(part):
        storage.put_atomic(part, storage.get(part)[:-30])
    elif what == "tear done":
        storage.put_atomic(done, b'{"shard":')
    elif what == "swap done" and storage.exists(done_key((shard + 1) % 3)):
        storage.put_atomic(done, storage.get(done_key((shard + 1) % 3)))
    elif what == "retry" and storage.exists(part):
        commit(storage, plan, shard, generation=generation + 1)


def readable(storage: LocalStorage) -> Iterator[int]:
    """Shards of which some whole part stands."""
    for key in storage.list("assets"):
        try:
            rows = pq.read_table(storage.root / key, columns=["item_id"])
        except (pa.ArrowException, OSError):
            continue
        if rows.num_rows:
            yield int(key[len("assets/part-") :][:6])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(harms)
def test_repair_then_generate_is_sound_and_loses_nothing(
    run: tuple[LocalStorage, Plan],
    tmp_path_factory: pytest.TempPathFactory,
    harmed: list[tuple[str, int]],
) -> None:
    plan = run[1]
    folder = Path(tmp_path_factory.mktemp("harmed")) / "run"
    shutil.copytree(run[0].root, folder)
    storage = LocalStorage(folder)
    for what, shard in harmed:
        harm(storage, plan, what, shard)
    before = set(readable(storage))
    list(repair_run(storage, plan, now=0.0))
    assert set(readable(storage)) == before == set(done_generations(storage))
    assert list(repair_run(storage, plan, now=0.0)) == []
    for shard in todo_shards(storage, plan):
        assert adopt_shard(storage, plan.shard(shard)) is None
        commit(storage, plan, shard)
    result = verify_run(storage, plan)
    assert result.sound
    assert not result.found
    shutil.rmtree(folder)
