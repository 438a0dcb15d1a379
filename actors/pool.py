"""The Ray side of the replicas: actors and the calls they have not answered yet."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import ray
from ray.exceptions import RayError

from actors.deaths import Death, explain
from actors.replica import MAX_CONCURRENCY, Failure, Placed, Ready, Replica, thread_environment
from actors.shard_worker import ShardTask
from actors.spec import WorkerSpec
from infra.dataset import ShardSummary

NODE_LABEL = "ray.io/node-id"
Kind = Literal["place", "ping", "run", "probe"]
Answer = Placed | Ready | ShardSummary | Failure | Death


@dataclass(frozen=True)
class ReplicaOptions:
    """Resources and limits of every replica.

    Attributes:
        num_gpus: share of a GPU.
        num_cpus: CPUs it reserves.
        threads: OpenMP and torch threads.
        start_timeout_s: longest time to load.
        inherit: its process has the variables of `thread_environment` from the Ray it belongs to.
    """

    num_gpus: float
    num_cpus: float
    threads: int
    start_timeout_s: float
    inherit: bool = False


@dataclass(frozen=True)
class Call:
    """A call that was sent to a replica; `shard` is that of a `run`."""

    replica: int
    kind: Kind
    shard: int = -1


class Pool:
    """Actors by replica id."""

    def __init__(self, spec: WorkerSpec, options: ReplicaOptions) -> None:
        """Args: spec: what replicas are built from; options: what each of them asks for."""
        self._spec = spec
        self._options = options
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, Call] = {}

    def start(self, replica: int, *, avoid: Collection[str] = ()) -> None:
        """Ask for an actor and load its system; it waits while there is no room for it.

        Args:
            replica: its id.
            avoid: ids of nodes it must not run on.
        """
        options = self._options
        extra: dict[str, Any] = {}
        if avoid:
            extra["label_selector"] = {NODE_LABEL: f"!in({','.join(sorted(avoid))})"}
        if not options.inherit:
            extra["runtime_env"] = {"env_vars": thread_environment(options.threads)}
        actor_class = cast("Any", ray.remote(Replica)).options(
            num_gpus=options.num_gpus,
            num_cpus=options.num_cpus,
            max_restarts=0,
            max_concurrency=MAX_CONCURRENCY,
            **extra,
        )
        actor = actor_class.remote(self._spec)
        self._actors[replica] = actor
        self._calls[actor.place.remote()] = Call(replica, "place")
        ping = actor.ping.remote(options.start_timeout_s, options.threads)
        self._calls[ping] = Call(replica, "ping")

    def run(self, replica: int, task: ShardTask) -> None:
        """Give a replica a shard."""
        reference = self._actors[replica].run.remote(task)
        self._calls[reference] = Call(replica, "run", task.shard.index)

    def abandon(self, replica: int) -> None:
        """Tell a replica to save the rows of its shards and give them back."""
        self._actors[replica].abandon.remote()

    def probe(self, replica: int) -> None:
        """Ask a replica that can not be reached for anything: the answer is how it ended."""
        self.forget(replica)
        self._calls[self._actors[replica].place.remote()] = Call(replica, "probe")

    def answers(self, timeout_s: float) -> Iterator[tuple[Call, Answer]]:
        """Calls that are answered; waits for the first."""
        if not self._calls:
            time.sleep(timeout_s)
            return
        done, _ = ray.wait(list(self._calls), num_returns=1, timeout=timeout_s)
        for reference in done:
            call = self._calls.pop(reference, None)
            if call is None:  # its replica ended meanwhile
                continue
            try:
                yield call, ray.get(reference)
            except RayError as error:
                yield call, explain(error)

    def end(self, replica: int) -> None:
        """Kill the actor; its open calls are forgotten."""
        actor = self._actors.pop(replica, None)
        if actor is not None:
            ray.kill(actor, no_restart=True)
        self.forget(replica)

    def forget(self, replica: int) -> None:
        """Wait for no answer of this replica any more."""
        self._calls = {ref: call for ref, call in self._calls.items() if call.replica != replica}

    def end_all(self) -> None:
        """Kill every actor."""
        for replica in list(self._actors):
            self.end(replica)


def draining_nodes() -> set[str]:
    """Ids of the nodes that Ray knows will go down soon: a spot notice, a stopped `ray start`."""
    from ray._private.state import state  # noqa: PLC0415 - Ray has no public call for it

    try:
        return set(state.get_draining_nodes())
    except AttributeError:  # another version of Ray
        return set()
