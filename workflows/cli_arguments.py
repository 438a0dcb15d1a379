"""The arguments of every `geco` verb. Nothing here imports more than `argparse` and the verbs."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from workflows import cli_verbs

PROGRAM = "geco"
WIDTH = 98  # help is written for a screen of 100 columns and 24 lines
_OVERRIDES_HELP = "settings, e.g. seed=7 shard_size=32 model.sampler.steps=8"
_STORE_HELP = "how s3:// is reached, e.g. s3.endpoint_url=http://localhost:9000"
_RUN_HELP = "the --out of geco generate: a folder or s3://bucket/prefix"
Verbs = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


class Formatter(argparse.HelpFormatter):
    """Help of the same width everywhere, with the longest verb beside its text."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=WIDTH)
        self._action_max_length = len("    train-micro")


def add_verbs(verbs: Verbs) -> None:
    """Add every verb, in the order in which a run meets them."""
    _add_plan(verbs)
    _add_generate(verbs)
    _add_status(verbs)
    _add_retry(verbs)
    _add_verify(verbs)
    _add_repair(verbs)
    _add_report(verbs)
    _add_export(verbs)
    _add_convert(verbs)
    _add_train_micro(verbs)
    _add_doctor(verbs)


def _verb(
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


def _add_run(
    parser: argparse.ArgumentParser, settings: str = "s3.key=value", about: str = _STORE_HELP
) -> None:
    """RUN, and settings: of its store, unless said otherwise."""
    parser.add_argument("run_folder", metavar="RUN", help=_RUN_HELP)
    parser.add_argument("overrides", nargs="*", default=[], metavar=settings, help=about)


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", help="Parquet, CSV, JSONL, a folder or a glob of images")
    parser.add_argument("--out", help="the run: a folder or s3://bucket/prefix; reused to resume")
    parser.add_argument("--system", help="instantmesh (default) or noop")
    parser.add_argument("--preset", help="micro (default)")
    parser.add_argument(
        "--config", metavar="YAML", help="settings file; everything else overrides it"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=_OVERRIDES_HELP)


def _add_execution(parser: argparse.ArgumentParser) -> None:
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


def _add_plan(verbs: Verbs) -> None:
    parser = _verb(
        verbs,
        cli_verbs.plan,
        "Print items, duplicates, shards and estimated device-hours; make nothing.",
        "--manifest M [--out RUN] [options] [key=value ...]",
        "--manifest photos.csv columns.image=path",
    )
    _add_run_arguments(parser)
    parser.add_argument(
        "--seconds-per-item",
        type=_positive,
        metavar="S",
        help="device seconds per item, if you know them",
    )


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _add_generate(verbs: Verbs) -> None:
    parser = _verb(
        verbs,
        cli_verbs.generate,
        "Make a mesh of every manifest row. The same command again resumes.",
        "--manifest M --out RUN [options] [key=value ...]",
        "--manifest photos.parquet --out runs/photos --workers 2 seed=7",
    )
    _add_run_arguments(parser)
    _add_execution(parser)


def _add_status(verbs: Verbs) -> None:
    parser = _verb(
        verbs,
        cli_verbs.status,
        "Print the state of a run, read from its store alone.",
        "RUN [--json] [s3.key=value ...]",
        "runs/photos",
    )
    _add_run(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable")


def _add_retry(verbs: Verbs) -> None:
    parser = _verb(
        verbs,
        cli_verbs.retry,
        "Make failed rows again, by reason. All other rows stay as they are.",
        "RUN (--reason R ... | --all-failed) [options] [key=value ...]",
        "runs/photos --reason timed_out --reason crashed item_timeout_s=1800",
    )
    _add_run(parser, "key=value", "e.g. workers=2 s3.endpoint_url=URL")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--reason", action="append", metavar="R", help="rows that failed so; may be repeated"
    )
    which.add_argument("--all-failed", action="store_true", help="every failed row")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be made, make nothing"
    )
    parser.add_argument("--config", metavar="YAML", help="settings file; what the run pins is kept")
    _add_execution(parser)


def _add_verify(verbs: Verbs) -> None:
    parser = _verb(
        verbs,
        cli_verbs.verify,
        "Check that every manifest row is there once and all digests hold; exit 1 if not.",
        "RUN [--fast] [--json] [--threads N] [s3.key=value ...]",
        "runs/photos --fast",
    )
    _add_run(parser)
    parser.add_argument("--fast", action="store_true", help="listings and footers only, no rows")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--threads", type=_count, default=4, metavar="N", help="(default: 4)")


def _add_repair(verbs: Verbs) -> None:
    parser = _verb(
        verbs,
        cli_verbs.repair,
        "Rebuild done records from parts, remove what no reader uses; no row is lost.",
        "RUN [--dry-run] [s3.key=value ...]",
        "runs/photos --dry-run",
    )
    _add_run(parser)
    parser.add_argument("--dry-run", action="store_true", help="list the actions, change nothing")


def _add_report(verbs: Verbs) -> None:
    parser = _verb(
        verbs,
        cli_verbs.report,
        "Write RUN/report/index.html: gallery, failures by reason, timing.",
        "RUN [key=value ...]",
        "runs/photos",
    )
    _add_run(parser, "key=value", "s3.* and fetch.* settings, e.g. s3.endpoint_url=URL")


def _add_export(verbs: Verbs) -> None:
    parser = _verb(
        verbs,
        cli_verbs.export,
        "Copy the rows into few clean Parquet files. The same command again resumes.",
        "RUN --out URI [options] [s3.key=value ...]",
        "runs/photos --out datasets/photos --glb-folder",
    )
    _add_run(parser)
    parser.add_argument("--out", required=True, help="target: an empty folder or s3:// prefix")
    parser.add_argument(
        "--status",
        choices=("done", "failed", "skipped", "all"),
        default="done",
        help="rows to copy (default: done)",
    )
    parser.add_argument("--columns", metavar="A,B,C", help="columns to copy (default: all)")
    parser.add_argument(
        "--rows-per-file",
        type=_count,
        metavar="N",
        help="(default: as many as make files of 512 MB)",
    )
    parser.add_argument("--glb-folder", action="store_true", help="also write glb/<id>.glb files")


def _add_convert(verbs: Verbs) -> None:
    parser = _verb(
        verbs,
        cli_verbs.convert,
        "Turn a checkpoint of any format into safetensors, with digests.",
        "SOURCE --out FILE [options]",
        "model.ckpt --out model.safetensors --key state_dict",
    )
    parser.add_argument("source", metavar="SOURCE", help="checkpoint file")
    parser.add_argument("--out", required=True, metavar="FILE", help="safetensors file to write")
    parser.add_argument(
        "--i-trust-this-file",
        action="store_true",
        help="allow a pickle that runs code: only for files whose origin you know",
    )
    parser.add_argument("--key", metavar="NAME", help="branch to take, e.g. state_dict")
    parser.add_argument("--sha256", default="", metavar="HEX", help="expected digest of SOURCE")
    parser.add_argument(
        "--memory-mb",
        type=_count,
        default=16384,
        metavar="MB",
        help="memory limit of the reading process (default: 16384)",
    )
    parser.add_argument(
        "--timeout-s",
        type=_positive,
        default=1800.0,
        metavar="S",
        help="time limit of the reading process (default: 1800)",
    )


def _add_train_micro(verbs: Verbs) -> None:
    parser = _verb(
        verbs,
        cli_verbs.train_micro,
        "Train the micro weights from seeds on the CPU. The same command again resumes.",
        "SYSTEM [--out FOLDER] [--install] [key=value ...]",
        "instantmesh --out runs/micro",
    )
    parser.add_argument("system", metavar="SYSTEM", help="instantmesh (the only one yet)")
    parser.add_argument("--out", default="runs/micro", help="training folder; reused to resume")
    parser.add_argument("--install", action="store_true", help="put the weights into the package")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="settings")


def _add_doctor(verbs: Verbs) -> None:
    parser = _verb(
        verbs,
        cli_verbs.doctor,
        "Check this machine: Python, torch, Ray, GPU, threads, disk, accelerators.",
        "[--out FOLDER] [--address RAY]",
        "--out runs",
    )
    parser.add_argument("--out", default=".", help="where runs will be written (default: here)")
    parser.add_argument("--address", metavar="RAY", help="also check this Ray cluster: host:port")
