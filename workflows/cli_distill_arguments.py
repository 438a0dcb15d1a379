"""The arguments of `geco distill`."""

from __future__ import annotations

from workflows import cli_verbs
from workflows.cli_parsing import Verbs, new_verb


def add_distill(verbs: Verbs) -> None:
    """Add `geco distill`."""
    parser = new_verb(
        verbs,
        cli_verbs.distill,
        "Distil a teacher into a one-step chain: targets, both stages, evaluation, a dataset.",
        "[--preset NAME | --config YAML] --out RUN [--plan] [--steps A,B] [key=value ...]",
        "--preset micro-smoke --out runs/distill",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--preset", help="micro-smoke, micro or full")
    source.add_argument("--config", metavar="YAML", help="settings file")
    parser.add_argument(
        "--out", metavar="RUN", help="a folder or s3://bucket/prefix; given again, it goes on"
    )
    parser.add_argument(
        "--plan", action="store_true", help="print the graph, what is done, what will run, its cost"
    )
    parser.add_argument(
        "--steps", metavar="A,B", help="only these steps and what they need (default: all)"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=value",
        help="settings, e.g. stage1_train.steps=200 train.workers=2 conditions.manifest=m.parquet",
    )
