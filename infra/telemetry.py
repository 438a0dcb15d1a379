"""Logs as events with fields, `log_event(log, "shard_done", shard=3, wall_s=1.8)`, written as text
for people or as JSON lines.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Literal

_FIELDS = "event_fields"


def log_event(log: logging.Logger, event: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log one event. Numbers carry their unit in the name (`wall_s`, `size_bytes`)."""
    log.log(level, event, extra={_FIELDS: fields})


class TextFormatter(logging.Formatter):
    """`12:00:01 shard_done shard=3 wall_s=1.8`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields = getattr(record, _FIELDS, {})
        text = " ".join(f"{key}={_short(value)}" for key, value in fields.items())
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()} "
        line = f"{self.formatTime(record, '%H:%M:%S')} {level}{record.getMessage()} {text}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, event and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        content = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, default=str)


class _CurrentStderr(logging.Handler):
    """Writes to what `sys.stderr` is right now: a live table on the terminal takes its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one event."""
        try:
            sys.stderr.write(f"{self.format(record)}\n")
        except (OSError, ValueError):  # stderr is closed: nobody is left to tell
            self.handleError(record)


def configure_logging(style: Literal["text", "json"] = "text", *, debug: bool = False) -> None:
    """Send the project's events to stderr; other libraries only from warnings on."""
    handler = _CurrentStderr()
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in ("workflows", "actors", "infra", "geco_core"):
        logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.INFO)


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return json.dumps(text) if " " in text else text
