"""Events with fields, as text for people and as JSON lines for machines."""

from __future__ import annotations

import json
import logging

from infra.environment import describe_environment
from infra.telemetry import JsonFormatter, TextFormatter, log_event


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
