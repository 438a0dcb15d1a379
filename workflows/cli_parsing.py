"""What the arguments of several `geco` verbs have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable

PROGRAM = "geco"
WIDTH = 98  # help is written for a screen of 100 columns and 24 lines
_STORE_HELP = "how s3:// is reached, e.g. s3.endpoint_url=http://localhost:9000"
_RUN_HELP = "the --out of geco generate: a folder or s3://bucket/prefix"
Verbs = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


class Formatter(argparse.HelpFormatter):
    """Help of the same width everywhere, with the longest verb beside its text."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=WIDTH)
        self._action_max_length = len("    train-micro")


def new_verb(
    verbs: Verbs, run: Callable[[argparse.Namespace], int], about: str, usage: str, example: str
) -> argparse.ArgumentParser:
    """A verb named like the function that runs it."""
    name = run.__name__.replace("_", "-")
    parser = verbs.add_parser(
        name,
        prog=f"{PROGRAM} {name}",
        help=about,
        description=about,
        usage=f"{PROGRAM} {name} {usage}",
        epilog=f"example: {PROGRAM} {name} {example}",
        formatter_class=Formatter,
    )
    parser.add_argument(
        "--debug", action="store_true", help="debug events, and tracebacks of errors"
    )
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="of events on stderr"
    )
    parser.set_defaults(run=run)
    return parser


def add_run(
    parser: argparse.ArgumentParser, settings: str = "s3.key=value", about: str = _STORE_HELP
) -> None:
    """RUN, and settings: of its store, unless said otherwise."""
    parser.add_argument("run_folder", metavar="RUN", help=_RUN_HELP)
    parser.add_argument("overrides", nargs="*", default=[], metavar=settings, help=about)


def add_execution(parser: argparse.ArgumentParser) -> None:
    """How a run is carried out: workers, engine, patience with failures."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes with the model (default: one per GPU, else up to 2)",
    )
    parser.add_argument(
        "--engine", choices=("ray", "inline"), help="inline: this process, without Ray"
    )
    parser.add_argument(
        "--max-failure-rate",
        type=float,
        metavar="SHARE",
        help="share of failed items that is accepted (default: 0.05)",
    )


def positive(text: str) -> float:
    """A number above 0, as argparse types are."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return number


def count(text: str) -> int:
    """A whole number above 0, as argparse types are."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
