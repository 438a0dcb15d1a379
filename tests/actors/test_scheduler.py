"""The loop with replicas that answer what a test wants: no Ray, no processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.deaths import Death
from actors.order import WorkOrder
from actors.pool import Answer, Call
from actors.replica import Failure, Placed, Ready
from actors.schedule import Schedule
from actors.scheduler import Listener, Scheduler
from actors.shard_worker import ShardTask, WorkerSettings
from actors.spec import WorkerSpec
from actors.stop import Stop
from geco_core.errors import Fatal, Reason
from infra.attempts import read_attempts
from infra.dataset import ShardSummary
from infra.manifest import Columns, Manifest, ManifestFile
from infra.plan import Plan
from infra.storage import LocalStorage

ABANDONED = Failure("abandoned", "5 rows saved", "", "")
CRASH = Death(Reason.CRASHED, "segfault")
SILENCE = Death(Reason.CRASHED, "socket closed", certain=False)
MANIFEST = Manifest(
    "m.parquet", "parquet", "d", "", (ManifestFile("m.parquet", 960, stored=False),),
    Columns("id", None, "prompt", None), (),
)  # fmt: skip


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Script:
    """A pool whose replicas commit every shard, unless `answers` says otherwise.

    `answers[shard]` is what the next runs of the shard answer; None: nothing, until `abandon`.
    """

    def __init__(self, clock: Clock, **answers: list[Answer | None]) -> None:
        self.clock = clock
        self.planned = {int(k[1:]): deque(v) for k, v in answers.items()}
        self.probes: deque[Answer] = deque()
        self.events: deque[tuple[Call, Answer]] = deque()
        self.where: dict[int, str] = {}
        self.held: dict[int, list[int]] = {}
        self.tasks: list[ShardTask] = []
        self.started: list[tuple[int, tuple[str, ...]]] = []
        self.ended: list[int] = []
        self.told: list[int] = []

    def start(self, replica: int, *, avoid: Collection[str] = ()) -> None:
        self.started.append((replica, tuple(avoid)))
        room = [node for node in ("node0", "node1") if node not in avoid]
        node = min(room, key=list(self.where.values()).count)
        self.where[replica] = node
        self.events.append((Call(replica, "place"), Placed(f"w{replica}", node)))
        self.events.append((Call(replica, "ping"), Ready(f"w{replica}")))

    def run(self, replica: int, task: ShardTask) -> None:
        self.tasks.append(task)
        shard = task.shard.index
        answer: Answer | None = summary(shard, f"w{replica}")
        if self.planned.get(shard):
            answer = self.planned[shard].popleft()
        self.held.setdefault(replica, []).append(shard)
        if answer is not None:
            self.events.append((Call(replica, "run", shard), answer))

    def abandon(self, replica: int) -> None:
        self.told.append(replica)
        for shard in self.held.get(replica, []):
            self.events.append((Call(replica, "run", shard), ABANDONED))

    def probe(self, replica: int) -> None:
        self.events.append((Call(replica, "probe"), self.probes.popleft()))

    def answers(self, timeout_s: float) -> Iterator[tuple[Call, Answer]]:
        self.clock.now += 0.3
        if self.events:
            call, answer = self.events.popleft()
            if call.kind == "run" and call.shard in self.held.get(call.replica, []):
                self.held[call.replica].remove(call.shard)
            yield call, answer

    def forget(self, replica: int) -> None:
        self.events = deque(e for e in self.events if e[0].replica != replica)

    def end(self, replica: int) -> None:
        self.ended.append(replica)
        self.held.pop(replica, None)
        self.where.pop(replica, None)
        self.forget(replica)

    def end_all(self) -> None:
        self.ended.append(-1)


class Watch:
    """Reports nodes that drain, once."""

    def __init__(self) -> None:
        self.nodes: set[str] = set()

    def look(self) -> set[str]:
        found, self.nodes = self.nodes, set()
        return found


def summary(shard: int, worker: str, **reasons: int) -> ShardSummary:
    return ShardSummary(
        shard=shard, start=8 * shard, stop=8 * shard + 8, counts={"done": 8}, reasons=reasons,
        seconds={}, worker=worker, finished_at="",
    )  # fmt: skip


class Run:
    """A scheduler over a script, with what the listener heard."""

    def __init__(self, store: LocalStorage, shards: int, workers: int = 2, **answers: Any) -> None:
        self.clock = Clock()
        self.store = store
        self.script = Script(self.clock, **answers)
        self.stop = Stop(20, clock=self.clock)
        self.watch = Watch()
        self.order = WorkOrder(tuple(range(shards)))
        self.schedule = Schedule(range(shards), workers=workers, crashes_before_isolation=3)
        self.done: list[int] = []
        self.remarks: list[str] = []
        self.on_done = lambda _: None

    def __call__(self) -> Run:
        def heard(made: ShardSummary) -> bool:
            self.done.append(made.shard)
            self.on_done(made.shard)
            return True

        spec = WorkerSpec(self.store.uri, MANIFEST, "noop", "micro", (), "1", WorkerSettings(0))
        Scheduler(
            spec, Plan(MANIFEST, 8, 0), self.store, self.schedule, self.script,  # type: ignore[arg-type]
            self.order, Listener(heard, remark=self.remarks.append), self.stop,
            watch=self.watch, clock=self.clock, epoch=self.clock,  # type: ignore[arg-type]
        ).run()  # fmt: skip
        return self


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def test_every_shard_is_committed_once_and_every_replica_ended(store: LocalStorage) -> None:
    run = Run(store, 12)()
    assert sorted(run.done) == list(range(12))
    assert run.script.ended[-1] == -1
    assert not any(task.partials for task in run.script.tasks)


def test_a_death_costs_its_shards_another_run_that_looks_for_saved_rows(
    store: LocalStorage,
) -> None:
    run = Run(store, 4, workers=1, s0=[CRASH])()
    assert sorted(run.done) == [0, 1, 2, 3]
    assert {t.shard.index for t in run.script.tasks if t.partials} == {0, 1}
    assert read_attempts(store, 0).crashes == 1


def test_a_shard_that_keeps_crashing_runs_alone(store: LocalStorage) -> None:
    run = Run(store, 2, s0=[CRASH] * 3)()
    assert sorted(run.done) == [0, 1]
    assert [t.isolate for t in run.script.tasks if t.shard.index == 0] == [False] * 3 + [True]


def test_a_silent_replica_is_asked_until_it_is_known_how_it_ended(store: LocalStorage) -> None:
    run = Run(store, 2, workers=1, s0=[SILENCE])
    run.script.probes.extend([SILENCE, SILENCE, CRASH])
    run()
    assert sorted(run.done) == [0, 1]
    assert read_attempts(store, 0).crashes == 1
    assert not run.script.probes


def test_a_silent_replica_that_lives_has_not_crashed(store: LocalStorage) -> None:
    run = Run(store, 2, workers=1, s0=[SILENCE])
    run.script.probes.append(Placed("w0", "node0"))
    run()
    assert sorted(run.done) == [0, 1]
    assert read_attempts(store, 0).crashes == 0
    assert 0 in run.script.ended


def test_a_replica_that_gives_a_shard_back_is_replaced_without_a_crash(
    store: LocalStorage,
) -> None:
    run = Run(store, 3, workers=1, s0=[ABANDONED])()
    assert sorted(run.done) == [0, 1, 2]
    assert [replica for replica, _ in run.script.started] == [0, 1]
    assert read_attempts(store, 0).crashes == 0
    assert [t.shard.index for t in run.script.tasks if t.partials] == [0]


def test_work_leaves_a_node_that_drains(store: LocalStorage) -> None:
    run = Run(store, 4, s0=[None])
    run.on_done = lambda _: run.watch.nodes.add("node0")
    run()
    assert sorted(run.done) == [0, 1, 2, 3]
    assert run.script.told == [0]


def test_a_wish_to_stop_lets_shards_in_flight_finish(store: LocalStorage) -> None:
    run = Run(store, 12)
    run.on_done = lambda _: None if run.stop.requested else run.stop.request(15)
    run()
    assert 1 <= len(run.done) <= 4
    assert run.script.told == []


def test_shards_that_do_not_come_back_are_given_up_before_the_time_is_over(
    store: LocalStorage,
) -> None:
    run = Run(store, 12, s0=[None], s1=[None])
    run.on_done = lambda _: None if run.stop.requested else run.stop.request(15)
    run()
    assert run.script.told == [0]
    assert 10 <= run.clock.now < 30
    assert 0 not in run.done


def test_the_second_wish_waits_for_nothing(store: LocalStorage) -> None:
    run = Run(store, 12, s0=[None])

    def stop_twice(_: int) -> None:
        run.stop.request(15)
        run.stop.request(15)

    run.on_done = stop_twice
    assert len(run().done) == 1
    assert run.script.told == []


def test_a_node_that_kills_what_others_make_is_retired(store: LocalStorage) -> None:
    run = Run(store, 60)
    give = run.script.run

    def deadly(replica: int, task: ShardTask) -> None:
        if run.script.where[replica] == "node0":
            run.script.clock.now += 20  # deaths that are no neighbours
            run.script.planned.setdefault(task.shard.index, deque()).appendleft(CRASH)
        give(replica, task)

    run.script.run = deadly
    run()
    assert sorted(run.done) == list(range(60))
    assert len(run.remarks) == 1
    assert "node0" in run.remarks[0]
    assert ("node0",) in [avoid for _, avoid in run.script.started]
    assert not any(read_attempts(store, shard).blamed for shard in range(60))


def test_a_fatal_failure_ends_the_run_with_its_remedy(store: LocalStorage) -> None:
    run = Run(store, 4, s2=[Failure("fatal", "no space", "free some", "")])
    with pytest.raises(Fatal, match="no space") as caught:
        run()
    assert caught.value.remedy == "free some"
    assert run.script.ended[-1] == -1


def test_a_store_that_fails_is_tried_with_another_run(store: LocalStorage) -> None:
    stutter = Failure("store", "timeout", "", "")
    run = Run(store, 2, s0=[stutter, stutter])()
    assert sorted(run.done) == [0, 1]
