"""Kill everything that can die, on every store, at random moments; then count.

    python -m tests.chaos.campaign --rounds 100 --seed 0
    python -m tests.chaos.campaign --rounds 5 --stores local --kinds driver --system instantmesh

A trial is one run folder on one store that suffers several strikes, is finished, and is compared
row by row and byte by byte with an undisturbed run of the same manifest in one process. Prints a
table, writes everything as JSON to --out, and exits with 1 when anything is lost, doubled, damaged
or left hanging.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import save_result
from tests.chaos.kills import still_running
from tests.chaos.materials import healthy_material, poisoned_material
from tests.chaos.result import Result
from tests.chaos.trials import (
    ENDERS,
    ENDERS_PER_TRIAL,
    INNER,
    KINDS,
    NODES,
    POISON,
    Material,
    Scene,
    Store,
    Trial,
    mixed_trial,
    nodes_trial,
    poison_trial,
)
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.s3_servers import environment, moto_server, rclone_server

STORES = ("local", "moto", "rclone")
MORE_STORES = ("flaky",)  # moto behind a network that breaks every tenth request
# Shares of the strikes. A dead driver costs a start of Ray, a dead replica two seconds.
SHARES = {
    "driver": 15,
    "startup": 3,
    "drain": 9,
    "replica": 34,
    "child": 15,
    "server": 3,
    "raylet": 9,
    "segfault": 3,
    "hang": 3,
    "memory": 3,
    "exception": 3,
}
MAX_TRIALS_PER_STORE = 60
FRUITLESS_TRIALS = 2
RAYLETS_PER_TRIAL = 4
AGENTS_GONE_WITHIN_S = 150.0  # Ray's agents give up a minute after the node they served


@dataclass
class Plan:
    """What to do.

    Attributes:
        strikes: store -> how many strikes of each kind.
        seed: of moments and victims.
        items: rows of the manifest of sound items.
        system: that makes them.
        words: more settings.
    """

    strikes: Mapping[str, Counter[str]]
    seed: int = 0
    items: int = 480
    system: str = "noop"
    words: Sequence[str] = ()

    @property
    def faults(self) -> list[str]:
        """Kinds of poison."""
        return [kind for kind in POISON if any(some[kind] for some in self.strikes.values())]


def allotted(rounds: int, stores: Sequence[str], kinds: Sequence[str]) -> dict[str, Counter[str]]:
    """Every round is one strike; the shares of the kinds are kept as well as they can."""
    weight = {
        (store, kind): SHARES[kind] / (1 if kind == "server" else len(stores))
        for kind in kinds
        for store in stores
        if kind != "server" or store == "rclone"  # moto forgets, a disk has no server
    }
    total = sum(weight.values())
    exact = {cell: rounds * share / total for cell, share in weight.items()}
    count = {cell: int(value) for cell, value in exact.items()}
    order = sorted(exact, key=lambda c: (count[c] - exact[c], stores.index(c[0])))
    for cell in order[: rounds - sum(count.values())]:
        count[cell] += 1
    return {
        store: Counter({k: number for (s, k), number in count.items() if s == store})
        for store in stores
    }


def run(
    plan: Plan,
    folder: Path,
    progress: Callable[[str], object] = lambda _: None,
    *,
    patient: bool = False,
) -> Result:
    """The whole campaign.

    Args:
        plan: what to do.
        folder: empty, for everything.
        progress: hears of every trial.
        patient: in the end wait until Ray's own processes are gone as well.
    """
    begun = time.monotonic()
    result = Result()
    healthy = healthy_material(folder, plan.system, plan.items, plan.words)
    poisoned = poisoned_material(plan.faults, folder) if plan.faults else healthy
    for name, strikes in plan.strikes.items():
        rng = random.Random(f"{plan.seed} {name}")
        with opened_store(name, folder) as store:
            for trial in _trials(store, Counter(strikes), folder, healthy, poisoned, rng):
                result.trials.append(trial)
                progress(json.dumps(trial.to_json()))
    result.wall_s = time.monotonic() - begun
    if patient:
        started = [process for trial in result.trials for process in trial.started]
        alive = still_running(started, AGENTS_GONE_WITHIN_S)
        result.left_running = [str(process) for process in alive]
    return result


def _trials(
    store: Store,
    left: Counter[str],
    folder: Path,
    healthy: Material,
    poisoned: Material,
    rng: random.Random,
) -> Iterator[Trial]:
    """Trials until every strike is done; gives up when they stop doing anything."""
    fruitless = 0
    for number in range(MAX_TRIALS_PER_STORE):
        # A poison manifest has all faults: what is left of some may be below zero.
        if not +left or fruitless == FRUITLESS_TRIALS:
            return
        sort = _next_sort(left)
        batch = _batch(left, sort)
        material = poisoned if sort == "poison" else healthy
        scene = Scene(store, f"{sort}{number:02d}", folder, material, rng)
        trial = {"mixed": mixed_trial, "poison": poison_trial, "nodes": nodes_trial}[sort](
            scene, batch
        )
        left.subtract(trial.strikes)
        fruitless = 0 if +trial.strikes else fruitless + 1
        yield trial


def _next_sort(left: Counter[str]) -> str:
    """Nodes come late: what the others could not use up is struck there as well."""
    if any(left[kind] > 0 for kind in POISON):
        return "poison"
    if any(left[kind] > 0 for kind in ENDERS):
        return "mixed"
    return "nodes" if any(left[kind] > 0 for kind in NODES) else "mixed"


def _batch(left: Counter[str], sort: str) -> list[str]:
    """The strikes of the next trial."""
    if sort == "poison":
        drivers = ["driver"] if left["driver"] > 0 else []
        return [*drivers, *(kind for kind in POISON if kind in left)]
    inner = [kind for kind in INNER for _ in range(left[kind])]
    if sort == "nodes":
        return [*["raylet"] * min(left["raylet"], RAYLETS_PER_TRIAL), *inner]
    enders = [kind for kind in ENDERS for _ in range(left[kind])]
    folders = max(1, -(-len(enders) // ENDERS_PER_TRIAL))
    # Drivers of every kind in every folder, and an even share of the rest.
    return [*enders[::folders], *inner[::folders]]


def flaky_network() -> list[Fault]:
    """Every tenth request breaks, one way or another."""
    kinds = ("error_500", "error_after", "reset_before", "reset_after", "truncated", "slow_body")
    faults = [Fault(kind, probability=0.015, seconds=0.2) for kind in kinds]
    return [*faults, Fault("cut_upload", method="PUT", probability=0.02)]


@contextlib.contextmanager
def opened_store(name: str, folder: Path) -> Iterator[Store]:
    """The store, with its server running and this process able to read it."""
    if name == "local":
        base = folder / "local"
        base.mkdir()
        yield Store(name, str(base), {})
        return
    start = rclone_server if name == "rclone" else moto_server
    with start(folder / name) as server, environment(server.env):
        base = server.create_bucket("chaos") + "/runs"
        if name != "flaky":
            yield Store(name, base, server.env, server)
            return
        with fault_proxy(server.port, flaky_network()) as proxy:
            yield Store(name, base, proxy.env, server)


def parse(argv: Sequence[str] | None = None) -> tuple[Plan, Path | None, Path | None]:
    """The command line: what to do, where to write the JSON, which folder to keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100, help="strikes in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and victims")
    parser.add_argument("--stores", default=",".join(STORES), help="of %(default)s,flaky")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of %(default)s")
    parser.add_argument("--items", type=int, default=480, help="rows of a manifest")
    parser.add_argument("--system", choices=("noop", "instantmesh"), default="noop")
    parser.add_argument("--out", type=Path, help="write everything as JSON here")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    parser.add_argument("words", nargs="*", help="more settings, e.g. shard_size=8")
    options = parser.parse_args(argv)
    stores, kinds = options.stores.split(","), options.kinds.split(",")
    for given, known in ((stores, (*STORES, *MORE_STORES)), (kinds, KINDS)):
        if strange := set(given) - set(known):
            parser.error(f"{', '.join(sorted(strange))}: none of {', '.join(known)}")
    if options.system != "noop":  # the other systems have no items that fail on demand
        kinds = [kind for kind in kinds if kind not in POISON]
    strikes = allotted(options.rounds, stores, kinds)
    plan = Plan(strikes, options.seed, options.items, options.system, options.words)
    return plan, options.out, options.keep


def main(argv: Sequence[str] | None = None) -> int:
    """Console entry."""
    plan, out, keep = parse(argv)
    with contextlib.ExitStack() as stack:
        if keep is None:
            temporary = tempfile.TemporaryDirectory(prefix="geco-chaos-")
            folder = Path(stack.enter_context(temporary))
        else:
            folder = keep
            folder.mkdir(parents=True)

        def tell(line: str) -> None:
            print(line, file=sys.stderr, flush=True)

        result = run(plan, folder, tell, patient=True)
    if out is not None:
        save_result("chaos", result.to_json(), out)
    sys.stdout.write(result.table())
    missing = sum(sum(some.values()) for some in plan.strikes.values()) - result.kills
    if missing > 0:
        sys.stdout.write(f"{missing} strikes found no victim\n")
    return 0 if result.good and missing <= 0 else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    sys.exit(main())
