"""The targets system in front of its store: nothing twice, nothing lost, damage mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from actors.targets import FOUND, MENDED, NOT_KEPT, RACED, StoredTargets, with_store
from geco_core.config.run import S3Config
from geco_core.distill.targets import MadeTarget
from geco_core.errors import BadItem, Fatal, Reason, Retryable
from geco_core.systems.noop import build_noop
from geco_core.systems.targets import TargetsSystem
from geco_core.types import Condition, Item, Mesh, MeshRow, Target
from infra.dataset import RowContext
from infra.extra_columns import extra_columns
from infra.targets.store import TargetStore, object_key
from tests.actors.shards import run, worker
from tests.support.stores import MemoryStorage, PowerCut, SteppedStorage, dying_after

QUIET: Callable[[float], None] = lambda _: None  # noqa: E731


class Maker:
    """Stands in for `TargetsSystem`: a target is its item's number, written everywhere."""

    name, preset, batch_size = "targets", "micro", 4

    def __init__(self, salt: int = 0) -> None:
        self.made: list[int] = []
        self.empty: set[int] = set()
        self._salt = salt

    def prepare(self, item: Item) -> Condition:
        return Condition(item.item_id, prompt=item.prompt, source_sha256="s")

    def key(self, condition: Condition, seed: int) -> str:
        return f"{seed:064x}"

    def make(
        self, conditions: Sequence[Condition], seeds: Sequence[int]
    ) -> Iterator[MadeTarget | BadItem]:
        for condition, seed in zip(conditions, seeds, strict=True):
            self.made.append(seed)
            if seed in self.empty:
                yield BadItem("empty", reason=Reason.EMPTY_MESH, item_id=condition.item_id)
                continue
            yield MadeTarget(self.target(condition, seed), tetrahedron())

    def target(self, condition: Condition, seed: int) -> Target:
        shade = np.uint8((seed + self._salt) % 256)
        return Target(
            item_id="",
            seed=seed,
            condition=np.full((4, 4, 3), shade),
            latents=np.full((1, 2, 2), float(shade), np.float16),
            renders=np.full((2, 4, 4, 4), shade),
            w2c=np.zeros((2, 4, 4), np.float32),
            fov_deg=50.0,
            key=self.key(condition, seed),
            teacher_digest="t",
            digests={"condition": "c", "settings": "s", "weights": "w"},
        )

    def noise_seeds(self, seed: int) -> list[tuple[str, int]]:
        return [("initial", seed)]

    def provenance(self) -> dict[str, Any]:
        return {"weights_digest": "w", "config_digest": "c", "licences": []}

    def timing(self) -> dict[str, float]:
        return {"multiview": 1.0}


def tetrahedron() -> Mesh:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
    return Mesh(corners, faces, np.full((4, 3), 90, np.uint8))


def stored(maker: Maker, storage: Any) -> StoredTargets:
    return StoredTargets(cast(TargetsSystem, maker), TargetStore(storage), QUIET)


def conditions(count: int) -> list[Condition]:
    return [Condition(f"i{k}", source_sha256="s") for k in range(count)]


def rows(results: Sequence[Any]) -> list[MeshRow]:
    assert all(isinstance(r, MeshRow) for r in results), results
    return list(results)


def test_what_is_in_the_store_is_not_made_again() -> None:
    memory, first, second = MemoryStorage(), Maker(), Maker()
    made = rows(stored(first, memory).generate(conditions(3), [1, 2, 3]))
    system = stored(second, memory)
    found = rows(system.generate(conditions(4), [3, 2, 1, 9]))
    assert first.made == [1, 2, 3]
    assert second.made == [9]
    assert [row.notes for row in found] == [(FOUND,)] * 3 + [()]
    assert [row.notes for row in made] == [()] * 3
    for ours, theirs in zip(made, found[2::-1], strict=True):
        assert ours.columns["target_sha256"] == theirs.columns["target_sha256"]
        np.testing.assert_array_equal(ours.mesh.vertices, theirs.mesh.vertices)
    assert max(memory.writes.values()) == 1
    assert system.timing() == {"multiview": 1.0}
    system.generate(conditions(1), [1])
    assert system.timing() == {}


def test_two_items_of_one_batch_that_are_the_same_are_made_once() -> None:
    maker = Maker()
    maker.empty = {8}
    made = stored(maker, MemoryStorage()).generate(conditions(5), [4, 8, 4, 8, 5])
    assert maker.made == [4, 8, 5]
    assert isinstance(made[1], BadItem)
    assert isinstance(made[3], BadItem)
    first, again, last = rows([made[0], made[2], made[4]])
    assert (first.notes, again.notes, last.notes) == ((), (FOUND,), ())
    assert again.columns is first.columns


def test_a_death_costs_what_was_being_made() -> None:
    """Three of five are in the store when the process dies: two are left to make."""
    memory, victim, heir = MemoryStorage(), Maker(), Maker()
    steps = 5 + 3  # five looks, three puts
    with pytest.raises(PowerCut):
        stored(victim, SteppedStorage(memory, dying_after(steps))).generate(
            conditions(5), [1, 2, 3, 4, 5]
        )
    assert len(memory.objects) == 3
    made = rows(stored(heir, memory).generate(conditions(5), [1, 2, 3, 4, 5]))
    assert heir.made == [4, 5]
    assert [bool(row.notes) for row in made] == [True] * 3 + [False] * 2
    assert set(memory.writes.values()) == {1}


def test_a_damaged_object_is_made_again_and_replaced() -> None:
    memory, maker = MemoryStorage(), Maker()
    system = stored(maker, memory)
    system.generate(conditions(1), [1])
    key = object_key(f"{1:064x}")
    whole = memory.objects[key]
    memory.objects[key] = whole[:-3] + bytes(3)
    (row,) = rows(system.generate(conditions(1), [1]))
    assert row.notes == (MENDED,)
    assert memory.objects[key] == whole
    (row,) = rows(system.generate(conditions(1), [1]))
    assert row.notes == (FOUND,)
    assert maker.made == [1, 1]


def test_of_two_that_race_both_keep_the_first() -> None:
    """Another device may give other bytes; the rows must not differ for it."""
    memory, slow = MemoryStorage(), Maker(salt=1)

    class Late(Maker):
        def make(
            self, conditions: Sequence[Condition], seeds: Sequence[int]
        ) -> Iterator[MadeTarget | BadItem]:
            rows(stored(slow, memory).generate(conditions, seeds))
            yield from super().make(conditions, seeds)

    (row,) = rows(stored(Late(), memory).generate(conditions(1), [1]))
    (other,) = rows(stored(slow, memory).generate(conditions(1), [1]))
    assert row.notes == (RACED,)
    assert row.columns["target_sha256"] == other.columns["target_sha256"]
    assert max(memory.writes.values()) == 1


def test_a_store_that_fails_costs_no_row() -> None:
    class Failing(MemoryStorage):
        def put_atomic(self, *_: Any, **__: Any) -> bool:
            raise Retryable("no answer")

        def get(self, key: str) -> bytes:
            raise Retryable("no answer")

    (row,) = rows(stored(Maker(), Failing()).generate(conditions(1), [1]))
    assert row.notes == (NOT_KEPT,)
    assert row.columns["target_key"] == f"{1:064x}"


def test_a_store_that_refuses_stops_the_run() -> None:
    class Refusing(MemoryStorage):
        def put_atomic(self, *_: Any, **__: Any) -> bool:
            raise Fatal("no right to write")

    with pytest.raises(Fatal, match="no right"):
        stored(Maker(), Refusing()).generate(conditions(1), [1])


def test_only_targets_are_put_in_front_of_a_store() -> None:
    with pytest.raises(Fatal, match="need a store"):
        with_store(build_noop("micro", []), None, S3Config())


def test_a_shard_of_targets_has_their_columns(tmp_path: Path) -> None:
    """Through preparation, finishing, commit: failed rows have nulls, done ones everything."""
    made = worker(tmp_path)
    seeds: dict[str, int] = {}

    class Numbered(Maker):
        def key(self, condition: Condition, seed: int) -> str:
            seeds[condition.item_id] = seed
            return super().key(condition, seed)

    maker = Numbered()
    made.system = stored(maker, MemoryStorage())
    made.context = RowContext("targets", "micro", {}, extra_columns("targets"))
    found = run(made)
    assert {row["status"] for row in found.values()} == {"done"}
    assert found["i2"]["target_key"] == f"{seeds['i2']:064x}"
    assert found["i2"]["glb"][:4] == b"glTF"
    assert len(found["i2"]["renders"]) == 2
    maker.empty = {seeds["i3"]}
    made.system = stored(maker, MemoryStorage())
    again = replace(made, storage=type(made.storage)(tmp_path / "other"))  # type: ignore[call-arg]
    mixed = run(again)
    assert mixed["i3"]["status"] == "failed"
    assert mixed["i3"]["target_key"] is None
    assert mixed["i3"]["renders"] is None
    assert {k: r["target_sha256"] for k, r in mixed.items() if k != "i3"} == {
        k: r["target_sha256"] for k, r in found.items() if k != "i3"
    }
