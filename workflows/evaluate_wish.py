"""From the arguments of `geco evaluate` to what is evaluated."""

from __future__ import annotations

from argparse import Namespace

from geco_core.errors import ConfigError
from geco_core.evaluate.metric_weights import DEFAULT_FOLDER
from geco_core.evaluate.protocol import get_protocol
from workflows.evaluate import EvaluationWish

PREFIX = "protocol."


def evaluation_wish(options: Namespace) -> EvaluationWish:
    """The wish; `protocol.*` words are taken out of `options.overrides`.

    Raises:
        ConfigError: an unknown protocol or setting, or a limit that is no number.
    """
    words = [w.removeprefix(PREFIX) for w in options.overrides if w.startswith(PREFIX)]
    options.overrides = [w for w in options.overrides if not w.startswith(PREFIX)]
    if options.align:
        words.append(f"align={options.align}")
    names = [name.strip() for name in (options.extras or "").split(",") if name.strip()]
    return EvaluationWish(
        reference=options.reference,
        protocol=get_protocol(options.protocol, words),
        limit=_limit(options.limit),
        extras=tuple(dict.fromkeys(names)),
        metric_weights=options.metric_weights or DEFAULT_FOLDER,
    )


def _limit(text: str | None) -> int | None:
    if text is None:
        return 0
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--limit {text!r} is no number above 0", remedy="give one, or all")
    return int(text)
