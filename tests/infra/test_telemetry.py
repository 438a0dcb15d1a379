"""Events with fields, as text for people and as JSON lines for machines."""

from __future__ import annotations

import io
import json
import logging

import pytest

from infra.environment import describe_environment
from infra.telemetry import JsonFormatter, TextFormatter, configure_logging, log_event


def record(event: str, **fields: object) -> logging.LogRecord:
    kept: list[logging.LogRecord] = []
    log = logging.getLogger("infra.test_telemetry")
    log.setLevel(logging.INFO)
    log.addHandler(handler := logging.Handler())
    handler.emit = kept.append  # type: ignore[method-assign]
    log_event(log, event, **fields)
    log.removeHandler(handler)
    return kept[0]


def test_text_quotes_what_has_spaces() -> None:
    line = TextFormatter().format(record("shard_done", shard=3, wall_s=1.23456, note="two words"))
    assert line.endswith('shard_done shard=3 wall_s=1.235 note="two words"')


def test_json_keeps_types() -> None:
    content = json.loads(JsonFormatter().format(record("shard_done", shard=3, wall_s=1.5)))
    assert (content["event"], content["shard"], content["wall_s"]) == ("shard_done", 3, 1.5)
    assert content["level"] == "info"


def test_the_environment_names_versions_and_machine() -> None:
    found = describe_environment()
    assert found["packages"]["pyarrow"]
    assert found["cpus"] >= 1


def test_events_go_to_the_stderr_of_the_moment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure_logging("text")
        screen = io.StringIO()  # a live table takes the place of stderr like this
        monkeypatch.setattr("sys.stderr", screen)
        log_event(logging.getLogger("infra.test_telemetry"), "shard_done", shard=3)
        assert "shard_done shard=3" in screen.getvalue()
        assert capsys.readouterr().err == ""
    finally:
        root.handlers[:] = before
        root.setLevel(level)
