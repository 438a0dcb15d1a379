"""When a node is retired, and everything that must not retire one."""

from __future__ import annotations

import random

import pytest

from actors.nodes import FORGIVING, STRIKES, Nodes

ALIVE = ("bad", "good")


def strike(nodes: Nodes, shard: int, at: float, node: str = "bad", other: str = "good") -> None:
    nodes.died(node, [shard], at)
    nodes.committed(shard, other)


def test_three_strikes_of_different_shards_retire_a_node() -> None:
    nodes = Nodes()
    for shard in range(STRIKES):
        assert nodes.retire(ALIVE) == []
        strike(nodes, shard, at=100.0 * shard)
    assert nodes.retire(ALIVE) == ["bad"]
    assert nodes.retire(ALIVE) == []
    assert nodes.retired == {"bad"}


def test_the_same_shard_strikes_once() -> None:
    nodes = Nodes()
    for turn in range(5):
        strike(nodes, 7, at=100.0 * turn)
    assert nodes.strikes("bad") == 1


def test_the_last_node_is_never_retired() -> None:
    nodes = Nodes()
    for shard in range(9):
        strike(nodes, shard, at=100.0 * shard)
    assert nodes.retire(["bad"]) == []


def test_a_blamed_row_explains_the_deaths_of_its_shard() -> None:
    nodes = Nodes()
    for shard in range(9):
        nodes.died("bad", [shard], 100.0 * shard)
        nodes.blamed(shard)
        nodes.committed(shard, "good")
    assert nodes.strikes("bad") == 0


def test_a_shard_that_shared_a_process_with_poison_is_no_strike() -> None:
    nodes = Nodes()
    for shard in range(0, 18, 2):
        nodes.died("bad", [shard, shard + 1], 100.0 * shard)
        nodes.committed(shard, "good")
        nodes.blamed(shard + 1)
        nodes.committed(shard + 1, "good")
    assert nodes.strikes("bad") == 0


def test_a_death_beside_an_explained_one_is_no_strike() -> None:
    nodes = Nodes()
    nodes.died("bad", [1], 100.0)
    nodes.died("bad", [2], 105.0)
    nodes.committed(1, "good")
    assert nodes.strikes("bad") == 0  # 2 is not settled yet
    nodes.blamed(2)
    nodes.committed(2, "good")
    assert nodes.strikes("bad") == 0


def test_a_shard_that_commits_where_it_died_is_no_strike() -> None:
    nodes = Nodes()
    strike(nodes, 1, at=0.0, node="bad", other="bad")
    assert nodes.strikes("bad") == 0


def test_commits_on_the_node_forgive() -> None:
    nodes = Nodes()
    strike(nodes, 0, at=0.0)
    for shard in range(100, 100 + FORGIVING):
        nodes.committed(shard, "bad")
    assert nodes.strikes("bad") == 0


def test_trouble_that_all_nodes_have_retires_none() -> None:
    nodes = Nodes()
    for turn in range(6):
        strike(nodes, 2 * turn, at=1000.0 * turn)
        strike(nodes, 2 * turn + 1, at=1000.0 * turn + 500, node="good", other="bad")
    assert nodes.retire(ALIVE) == []


@pytest.mark.parametrize("seed", range(30))
def test_a_manifest_full_of_poison_retires_nobody(seed: int) -> None:
    """Two processes per node, two shards per process, half of the shards with a poison row."""
    rng = random.Random(seed)
    nodes, poison = Nodes(), {shard for shard in range(200) if rng.random() < 0.5}
    waiting, deaths, now = list(range(200)), dict.fromkeys(range(200), 0), 0.0
    while waiting:
        now += rng.random() * 20
        node = rng.choice(ALIVE)
        held = [waiting.pop(0) for _ in range(min(2, len(waiting)))]
        deadly = [shard for shard in held if shard in poison]
        if not deadly:
            for shard in held:
                nodes.committed(shard, node)
            continue
        nodes.died(node, held, now)
        for shard in held:
            deaths[shard] += 1
            waiting.insert(0, shard)
            if deaths[shard] >= 3 and shard in poison:  # isolated, and then the row is found
                poison.discard(shard)
                nodes.died(node, [shard], now)
                nodes.blamed(shard)
        assert nodes.retire(ALIVE) == []
