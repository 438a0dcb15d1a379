"""Trials: one run folder each, struck several times while it is made, then finished and judged.

A trial takes as many of the strikes it is given as it can use before its run is complete.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from infra.run_state import done_shards
from infra.storage import Storage, open_storage
from tests.chaos.kills import Victim, generate_line, outliving, victim
from tests.chaos.materials import POISON, Material
from tests.chaos.verdict import Damage, judge
from tests.support.s3_servers import S3Server
from workflows.verify import verify_uri

ENDERS = ("driver", "startup", "drain")  # end the command
INNER = ("replica", "child", "server")  # the command survives
NODES = ("raylet",)
KINDS = (*ENDERS, *INNER, *NODES, *POISON)
ENDERS_PER_TRIAL = 4


@dataclass(frozen=True)
class Store:
    """Where run folders go. `server` is None for the local disk."""

    name: str
    base: str
    env: Mapping[str, str]
    server: S3Server | None = None

    def open(self, out: str) -> Storage:
        """The storage of a run folder."""
        return open_storage(out)


@dataclass
class Trial:
    """What was done to one run folder, and what came out."""

    store: str
    sort: str
    strikes: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    damage: Damage = field(default_factory=Damage)
    exit_codes: list[int] = field(default_factory=list)
    wall_s: float = 0.0
    started: list[psutil.Process] = field(default_factory=list)  # below commands that were ended

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "store": self.store,
            "sort": self.sort,
            "strikes": dict(self.strikes),
            "seconds": {kind: round(value, 2) for kind, value in self.seconds.items()},
            "exit_codes": self.exit_codes,
            "wall_s": round(self.wall_s, 1),
            "damage": self.damage.to_json(),
        }


class Scene:
    """A run folder on a store and the commands that work on it, one after the other."""

    def __init__(
        self, store: Store, name: str, folder: Path, material: Material, rng: random.Random
    ) -> None:
        self.store = store
        self.out = f"{store.base}/{name}"
        self.log = folder / f"{name}.log"
        self.material = material
        self.rng = rng
        self.storage = store.open(self.out)
        self.victims: list[Victim] = []

    def done(self) -> int:
        """Committed shards."""
        return len(done_shards(self.storage))

    @contextlib.contextmanager
    def command(self, *words: str) -> Iterator[Victim]:
        """`geco generate` on the folder."""
        line = generate_line(self.material.manifest, self.out, *self.material.words, *words)
        with victim(line, self.store.env, self.log, self.done) as one:
            self.victims.append(one)
            yield one

    def end(self, trial: Trial, *words: str) -> None:
        """The last command, undisturbed; then the judgement."""
        begun = time.monotonic()
        with self.command(*words) as one:
            trial.exit_codes.append(one.finish())
        trial.seconds["end"] += time.monotonic() - begun
        self.judge(trial)

    def judge(self, trial: Trial) -> None:
        """Open everything the run left."""
        found = judge(self.storage, self.material.expected())
        verification = verify_uri(self.out)
        if not found.total and (verification.faults or not verification.complete):
            found.different = max(1, verification.faults)
            found.details += [f"geco verify: {one.message}" for one in verification.shown]
        trial.damage.add(found)
        trial.started += [process for one in self.victims for process in one.started]
        alive = outliving(self.victims)
        trial.damage.stuck += len(alive)
        trial.damage.details += [f"outlived its command: {one}" for one in alive]
        if trial.exit_codes[-1] != 0:
            trial.damage.stuck += 1
            tail = self.log.read_text(errors="replace").splitlines()[-5:]
            trial.damage.details += [f"the last command ended with {trial.exit_codes[-1]}", *tail]


def mixed_trial(scene: Scene, strikes: Sequence[str]) -> Trial:
    """Deaths of drivers, replicas, children and servers in one run folder."""
    rng = scene.rng
    trial = Trial(scene.store.name, "mixed")
    enders = [kind for kind in strikes if kind in ENDERS][:ENDERS_PER_TRIAL]
    rng.shuffle(enders)
    commands: list[tuple[str | None, list[str]]] = [(kind, []) for kind in [*enders, None]]
    # A command that dies while it starts has nobody to strike; the last one may be done too soon.
    hosts = [inner for ender, inner in commands if ender not in ("startup", None)]
    for kind in strikes:
        if kind in INNER:
            rng.choice(hosts or [commands[-1][1]]).append(kind)
    begun = time.monotonic()
    for ender, inner in commands:
        with scene.command() as one:
            for kind in inner:
                _strike(kind, one, scene, trial)
            if ender is not None:
                _end(ender, one, scene, trial)
            else:
                started = time.monotonic()
                trial.exit_codes.append(one.finish())
                trial.seconds["end"] += time.monotonic() - started
    scene.judge(trial)
    trial.wall_s = time.monotonic() - begun
    return trial


def _strike(kind: str, one: Victim, scene: Scene, trial: Trial) -> None:
    """One strike the command survives, after some progress."""
    begun = time.monotonic()
    if not one.wait_for_commits():
        return
    time.sleep(scene.rng.uniform(0.0, 0.4))
    if kind == "server":
        assert scene.store.server is not None
        scene.store.server.restart()
        struck = True
    else:
        candidates = one.replicas if kind == "replica" else one.children
        struck = one.kill_one(candidates, scene.rng)
    if struck:
        trial.strikes[kind] += 1
        trial.seconds[kind] += time.monotonic() - begun


def _end(kind: str, one: Victim, scene: Scene, trial: Trial) -> None:
    """The strike that ends the command."""
    begun = time.monotonic()
    if kind == "startup":
        time.sleep(scene.rng.uniform(0.2, 5.0))
    elif one.wait_for_commits():
        time.sleep(scene.rng.uniform(0.0, 0.6))
    if one.ended:
        trial.exit_codes.append(one.finish())
        return
    if kind == "drain":
        if not one.drain():
            trial.damage.stuck += 1
            trial.damage.details.append("the command did not drain in time")
    else:
        one.kill()
    trial.strikes[kind] += 1
    trial.seconds[kind] += time.monotonic() - begun


def poison_trial(scene: Scene, strikes: Sequence[str]) -> Trial:
    """Poison items in the manifest, and deaths of the driver on top."""
    trial = Trial(scene.store.name, "poison")
    begun = time.monotonic()
    for kind in strikes:
        if kind in ENDERS:
            with scene.command() as one:
                _end(kind, one, scene, trial)
    scene.end(trial)
    poison = [kind for kind in strikes if kind in POISON]
    trial.strikes.update(poison)
    trial.seconds.update({kind: trial.seconds["end"] / len(poison) for kind in poison})
    trial.wall_s = time.monotonic() - begun
    return trial


def nodes_trial(scene: Scene, strikes: Sequence[str]) -> Trial:
    """A cluster of two nodes; the raylet of the second dies, and another node takes its place."""
    trial = Trial(scene.store.name, "nodes")
    begun = time.monotonic()
    with two_nodes() as nodes, scene.command(*nodes.words) as one:
        for kind in strikes:
            started = time.monotonic()
            if kind != "raylet":
                _strike(kind, one, scene, trial)
            elif one.wait_for_commits():
                time.sleep(scene.rng.uniform(0.0, 0.5))
                nodes.lose_one()
                trial.strikes[kind] += 1
                trial.seconds[kind] += time.monotonic() - started
                nodes.add_one()
        trial.exit_codes.append(one.finish())
        scene.judge(trial)
    trial.wall_s = time.monotonic() - begun
    return trial


class Nodes:
    """A Ray cluster on this machine: a head that works, and one more node."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._last: Any = None
        self.add_one()

    @property
    def words(self) -> tuple[str, ...]:
        """Settings of the command that joins it."""
        return (f"cluster.address={self._cluster.address}", "workers=2")

    def add_one(self) -> None:
        self._last = self._cluster.add_node(num_cpus=1, object_store_memory=80 << 20)

    def lose_one(self) -> None:
        """SIGKILL of the second node's raylet."""
        self._cluster.remove_node(self._last, allow_graceful=False)


@contextlib.contextmanager
def two_nodes() -> Iterator[Nodes]:
    """Start the cluster; main thread only."""
    from ray.cluster_utils import Cluster

    folder = Path(tempfile.mkdtemp(prefix="r"))  # short: sockets live below it
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "object_store_memory": 80 << 20,
            "include_dashboard": False,
            "temp_dir": str(folder),
            "_system_config": {"health_check_period_ms": 500, "health_check_failure_threshold": 4},
        },
    )
    try:
        yield Nodes(cluster)
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
