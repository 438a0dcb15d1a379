"""Running steps: what is done is kept, branches run at once, a failure takes only descendants."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from actors.stop import Stop
from geco_core.config.run import S3Config
from geco_core.errors import BadItem, Fatal, Reason
from infra.stages import digest_of, put_stage_file, work_folder
from infra.storage import LocalStorage, Storage, open_storage
from tests.support.s3_servers import moto_server
from workflows.dag import DagResult, Step, StepContext, StepOutputs, StepState, run_dag

KEPT, DONE, FAILED = StepState.KEPT, StepState.DONE, StepState.FAILED
SKIPPED, STOPPED = StepState.SKIPPED, StepState.STOPPED


@dataclass
class Lab:
    """Steps that write a file and count how often they ran; `hook` may do anything before that."""

    ran: list[str] = field(default_factory=list)
    hooks: dict[str, Callable[[StepContext], object]] = field(default_factory=dict)

    def step(self, name: str, *needs: str, version: int = 1, **reads: object) -> Step:
        return Step(name, self._run, needs, reads, version)

    def diamond(self, **reads: object) -> list[Step]:
        """{left || right} -> end, and a step apart."""
        return [
            self.step("start", **reads),
            self.step("left", "start"),
            self.step("right", "start"),
            self.step("end", "left", "right"),
            self.step("apart"),
        ]

    def _run(self, context: StepContext) -> StepOutputs | None:
        self.ran.append(context.name)
        hook = self.hooks.get(context.name)
        if hook is not None and hook(context) == "stopped":
            return None
        told = sorted(text for outputs in context.inputs.values() for text in outputs["texts"])
        key = context.key("out.txt")
        put_stage_file(context.storage, key, " ".join(told).encode())
        digest = digest_of(context.storage, key)
        return StepOutputs({"texts": [*told, context.name], "out": key}, {key: digest})


@pytest.fixture
def lab() -> Lab:
    return Lab()


def run(storage: Storage, steps: list[Step], stop: Stop | None = None, **more: object) -> DagResult:
    return run_dag(
        storage, steps, stop or Stop(60), clock=time.monotonic, now=lambda: "2026-01-01", **more
    )


def test_everything_runs_once_and_the_second_time_nothing(tmp_path: Path, lab: Lab) -> None:
    storage = LocalStorage(tmp_path)
    first = run(storage, lab.diamond())
    assert first.complete
    assert set(first.states.values()) == {DONE}
    assert sorted(lab.ran) == ["apart", "end", "left", "right", "start"]
    assert lab.ran.index("end") > max(lab.ran.index("left"), lab.ran.index("right"))
    assert first.records["end"].outputs["texts"] == ["left", "right", "start", "start", "end"]
    second = run(storage, lab.diamond())
    assert second.complete
    assert set(second.states.values()) == {KEPT}
    assert len(lab.ran) == 5
    assert second.records == first.records


def test_a_change_runs_the_step_and_its_descendants_again(tmp_path: Path, lab: Lab) -> None:
    storage = LocalStorage(tmp_path)
    run(storage, lab.diamond(x=1))
    again = run(storage, lab.diamond(x=2))
    assert again.states == dict.fromkeys(("start", "left", "right", "end"), DONE) | {"apart": KEPT}
    kept = sorted(key for key in storage.list("stages/start") if key.endswith("out.txt"))
    assert len(kept) == 2, "what another configuration made stays where it is"


def test_a_missing_file_runs_the_step_again_but_not_its_descendants(
    tmp_path: Path, lab: Lab
) -> None:
    storage = LocalStorage(tmp_path)
    first = run(storage, lab.diamond())
    storage.delete(first.records["left"].outputs["out"])
    again = run(storage, lab.diamond())
    assert again.states == dict.fromkeys(first.states, KEPT) | {"left": DONE}


def test_branches_run_at_once_and_no_more_than_allowed(tmp_path: Path, lab: Lab) -> None:
    meeting = threading.Barrier(2, timeout=20)
    lab.hooks = dict.fromkeys(("left", "right"), lambda _: meeting.wait())
    assert run(LocalStorage(tmp_path / "a"), lab.diamond()).complete, "each waited for the other"
    running, most = [0], [0]

    def count(_: StepContext) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.02)
        running[0] -= 1

    lab.hooks = dict.fromkeys(("start", "left", "right", "end", "apart"), count)
    assert run(LocalStorage(tmp_path / "b"), lab.diamond(), at_once=1).complete
    assert most == [1]


@pytest.mark.parametrize(
    "error",
    [
        Fatal("no room", remedy="make some"),
        BadItem("bad", reason=Reason.CRASHED),
        ValueError("odd"),
        SystemExit(3),
    ],
)
def test_a_failure_skips_its_descendants_and_the_rest_goes_on(
    tmp_path: Path, lab: Lab, error: BaseException
) -> None:
    def fail(_: StepContext) -> None:
        raise error

    storage = LocalStorage(tmp_path)
    lab.hooks["left"] = fail
    result = run(storage, lab.diamond())
    assert result.states == {
        "start": DONE, "left": FAILED, "right": DONE, "end": SKIPPED, "apart": DONE,
    }  # fmt: skip
    assert list(result.errors) == ["left"]
    assert not result.complete
    lab.hooks.clear()
    again = run(storage, lab.diamond())
    assert again.states == {
        "start": KEPT, "left": DONE, "right": KEPT, "end": DONE, "apart": KEPT,
    }  # fmt: skip


def test_a_record_that_can_not_be_written_is_a_failure(tmp_path: Path, lab: Lab) -> None:
    class Broken(LocalStorage):
        def put_atomic(self, key: str, data: object, *, only_if_absent: bool = False) -> bool:
            if key == "stages/left/DONE.json":
                raise Fatal("no space", remedy="make some")
            return super().put_atomic(key, data, only_if_absent=only_if_absent)

    result = run(Broken(tmp_path), lab.diamond())
    assert result.states["left"] is FAILED
    assert result.states["end"] is SKIPPED


def test_only_what_is_wanted_and_what_it_needs(tmp_path: Path, lab: Lab) -> None:
    result = run(LocalStorage(tmp_path), lab.diamond(), wanted=["left"])
    assert result.states == {"start": DONE, "left": DONE}
    assert sorted(lab.ran) == ["left", "start"]


def test_a_stop_lets_running_steps_end_and_starts_no_other(tmp_path: Path, lab: Lab) -> None:
    stop, storage = Stop(60), LocalStorage(tmp_path)
    begun = threading.Event()

    def ask(_: StepContext) -> None:
        begun.wait(20)
        stop.request(15)
        time.sleep(0.05)

    def heed(context: StepContext) -> str | None:
        begun.set()
        while not context.stop.requested:
            time.sleep(0.01)
        return "stopped"

    lab.hooks = {"left": ask, "right": heed}
    result = run(storage, lab.diamond(), stop)
    states = result.states
    assert (states["left"], states["right"], states["end"]) == (DONE, STOPPED, STOPPED)
    lab.hooks.clear()
    assert run(storage, lab.diamond()).states["right"] is DONE


def test_a_step_that_does_not_heed_is_left_behind_when_time_is_over(
    tmp_path: Path, lab: Lab
) -> None:
    stop, over = Stop(0.3), threading.Event()

    def deaf(_: StepContext) -> None:
        stop.request(15)
        over.wait(30)

    lab.hooks["start"] = deaf
    started = time.monotonic()
    result = run(LocalStorage(tmp_path), [lab.step("start"), lab.step("next", "start")], stop)
    assert time.monotonic() - started < 10
    assert result.states == {"start": STOPPED, "next": STOPPED}
    over.set()


def test_a_listener_hears_every_state(tmp_path: Path, lab: Lab) -> None:
    heard: list[tuple[str, StepState, str]] = []

    class Ear:
        def on_state(self, name: str, state: StepState, text: str) -> None:
            heard.append((name, state, text))

        def tick(self) -> None:
            pass

    def fail(_: StepContext) -> None:
        raise Fatal("no room")

    lab.hooks["left"] = fail
    run(LocalStorage(tmp_path), lab.diamond(), listener=Ear())
    assert heard[0] == ("start", StepState.RUNNING, "") or heard[0][0] == "apart"
    assert ("left", FAILED, "no room") in heard
    assert ("end", SKIPPED, "it needs left") in heard


def test_a_finished_step_of_a_racing_command_is_not_undone(tmp_path: Path, lab: Lab) -> None:
    """Two commands that slipped past each other's claim do the work twice and agree."""
    storage, results = LocalStorage(tmp_path), []
    both = [
        threading.Thread(target=lambda: results.append(run(storage, lab.diamond())))
        for _ in range(2)
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert all(result.complete for result in results)
    assert run(storage, lab.diamond()).states == dict.fromkeys(results[0].states, KEPT)


def test_in_a_bucket(tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with moto_server(tmp_path) as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        storage = open_storage(f"{server.create_bucket('dag')}/runs/a", S3Config())
        first = run(storage, lab.diamond())
        assert set(first.states.values()) == {DONE}
        assert set(run(storage, lab.diamond()).states.values()) == {KEPT}
        key = first.records["end"].outputs["out"]
        assert key.startswith(work_folder("end", first.records["end"].fingerprint))
        assert storage.get(key) == b"left right start start"
        storage.delete(key)
        assert run(storage, lab.diamond()).states["end"] is DONE
