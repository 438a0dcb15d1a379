"""`geco`: one program, one verb per job. Running the same command again resumes.

Exit codes: 0 every item is terminal and failures are within the limit; 1 they are not; 2 usage,
configuration or manifest refused before any work; 3 the run had to stop; 130 interrupted. `doctor`
returns 1 when something needed is missing.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from geco_core.config.load import load
from geco_core.config.run import RunConfig
from geco_core.errors import ConfigError, ForgeError, ManifestError
from infra.environment import code_version
from infra.telemetry import configure_logging
from workflows.doctor import diagnose
from workflows.generate import GenerateResult, generate
from workflows.plan import preview
from workflows.status import status_json, status_text
from workflows.words import counted

OK, OVER_LIMIT, REFUSED, STOPPED, INTERRUPTED = 0, 1, 2, 3, 130
_FLAGS = ("system", "preset", "manifest", "out", "workers", "engine")
_OVERRIDES_HELP = "key=value settings, e.g. seed=7 shard_size=32 model.sampler.steps=8"
Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Console entry point; returns the exit code."""
    parser = build_parser()
    arguments = sys.argv[1:] if argv is None else list(argv)
    _suggest_verb(parser, arguments)
    options, extra = parser.parse_known_args(arguments)
    strays = [word for word in extra if "=" not in word or word.startswith("-")]
    if strays or (extra and not hasattr(options, "overrides")):
        parser.error(
            f"unrecognized argument {(strays or extra)[0]!r}; see `geco {options.verb} --help`"
        )
    if extra:  # argparse stops collecting key=value words at the first flag after them
        options.overrides = [*options.overrides, *extra]
    configure_logging(options.log_format, debug=options.debug)
    return _guarded(options.run, options)


def build_parser() -> argparse.ArgumentParser:
    """The parser with every verb."""
    parser = argparse.ArgumentParser(
        prog="geco",
        description="A manifest of images goes in, a Parquet dataset of meshes comes out.",
        epilog="example: geco generate --manifest photos/ --out runs/photos",
    )
    parser.add_argument("--version", action="version", version=f"geco-forge {code_version()}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_plan(verbs)
    _add_generate(verbs)
    _add_status(verbs)
    _add_report(verbs)
    _add_train_micro(verbs)
    _add_doctor(verbs)
    return parser


def run_config(options: argparse.Namespace) -> RunConfig:
    """Defaults, then the YAML file, then `key=value` words, then flags. Raises `ConfigError`."""
    given = {
        name: getattr(options, name) for name in _FLAGS if getattr(options, name, None) is not None
    }
    flags = [f"{name}={json.dumps(value)}" for name, value in given.items()]
    return load(RunConfig, options.config, [*options.overrides, *flags])


def _guarded(run: Command, options: argparse.Namespace) -> int:
    try:
        return run(options)
    except ForgeError as error:
        where = f" [{error.stage}]" if error.stage else ""
        _tell(f"error{where}: {error.message}", error.remedy, debug=options.debug)
        return REFUSED if isinstance(error, (ConfigError, ManifestError)) else STOPPED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what is committed stays, the same command resumes\n")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the process border: no traceback unless asked for
        remedy = "" if options.debug else "add --debug to see where"
        _tell(f"error: {type(error).__name__}: {error}", remedy, debug=options.debug)
        return STOPPED


def _tell(text: str, remedy: str, *, debug: bool) -> None:
    """Write the error being handled to stderr."""
    if debug:
        sys.stderr.write(traceback.format_exc())
    sys.stderr.write(f"{text}\n" + (f"remedy: {remedy}\n" if remedy else ""))


def _generate(options: argparse.Namespace) -> int:
    config = run_config(options)
    result = generate(config)
    sys.stdout.write(_summary(result, config.out))
    within = result.state.failure_rate <= config.max_failure_rate
    return OK if result.complete and within and not result.stopped else OVER_LIMIT


def _summary(result: GenerateResult, out: str) -> str:
    state = result.state
    reasons = ", ".join(f"{reason} {count}" for reason, count in state.reasons.most_common())
    lines = [
        f"{state.rows_done:,} of {counted(result.plan.rows, 'item')}: "
        f"{state.counts['done']:,} done, {state.failed:,} failed, "
        f"{state.counts['skipped']:,} skipped" + (f" ({reasons})" if reasons else "")
    ]
    made = result.fresh.rows_done
    if made:
        rate = made / max(result.wall_s, 1e-9)
        lines.append(
            f"made now: {counted(made, 'item')} in {result.wall_s:.1f} s ({rate:.3g} items/s)"
        )
    if result.stopped:
        lines.append(f"stopped early: {result.stopped}")
    if not result.complete:
        lines.append("the same command resumes")
    lines.append(f"dataset: {out.rstrip('/')}/assets")
    return "\n".join(lines) + "\n"


def _plan(options: argparse.Namespace) -> int:
    sys.stdout.write(preview(run_config(options), options.seconds_per_item))
    return OK


def _status(options: argparse.Namespace) -> int:
    sys.stdout.write(
        status_json(options.run_folder) if options.json else status_text(options.run_folder)
    )
    return OK


def _report(options: argparse.Namespace) -> int:
    from workflows.report import build_report  # noqa: PLC0415 - templates and images

    sys.stdout.write(f"{build_report(Path(options.run_folder))}\n")
    return OK


def _train_micro(options: argparse.Namespace) -> int:
    from workflows.train_micro import train_micro  # noqa: PLC0415 - torch

    console = Console(file=sys.stderr)
    folder = Path(options.out)
    exported = train_micro(
        options.system, folder, options.overrides, install=options.install, console=console
    )
    sys.stdout.write(f"{exported}\n")
    return OK


def _doctor(options: argparse.Namespace) -> int:
    text, healthy = diagnose(Path(options.out))
    sys.stdout.write(text)
    return OK if healthy else OVER_LIMIT


def _verb(
    verbs: argparse._SubParsersAction, name: str, run: Command, about: str, example: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=about, description=about, epilog=f"example: {example}")
    parser.add_argument(
        "--debug", action="store_true", help="debug events, and tracebacks of errors"
    )
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="format of events on stderr"
    )
    parser.set_defaults(run=run)
    return parser


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", help="Parquet, CSV, JSONL, a folder or a glob of images")
    parser.add_argument("--out", help="run folder; reused to resume")
    parser.add_argument("--system", help="instantmesh (default) or noop")
    parser.add_argument("--preset", help="micro (default)")
    parser.add_argument(
        "--config", metavar="YAML", help="settings file; everything else overrides it"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=_OVERRIDES_HELP)


def _add_plan(verbs: argparse._SubParsersAction) -> None:
    about = "Print items, duplicates, shards and estimated device-hours; make nothing."
    parser = _verb(
        verbs, "plan", _plan, about, "geco plan --manifest photos.csv columns.image=path"
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


def _add_generate(verbs: argparse._SubParsersAction) -> None:
    about = "Make a mesh of every manifest row. The same command again resumes."
    example = "geco generate --manifest photos.parquet --out runs/photos --workers 2 seed=7"
    parser = _verb(verbs, "generate", _generate, about, example)
    _add_run_arguments(parser)
    parser.add_argument(
        "--workers", type=int, help="processes with the model (default: one per GPU, else up to 2)"
    )
    parser.add_argument(
        "--engine", choices=("ray", "inline"), help="inline: this process, without Ray"
    )


def _add_status(verbs: argparse._SubParsersAction) -> None:
    about = "Print the state of a run, read from its folder alone."
    parser = _verb(verbs, "status", _status, about, "geco status runs/photos")
    _add_run_folder(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable")


def _add_report(verbs: argparse._SubParsersAction) -> None:
    about = "Write RUN/report/index.html: gallery, failures by reason, timing."
    parser = _verb(verbs, "report", _report, about, "geco report runs/photos")
    _add_run_folder(parser)


def _add_run_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="the --out of geco generate")


def _add_train_micro(verbs: argparse._SubParsersAction) -> None:
    about = "Train the micro weights from seeds on the CPU. The same command again resumes."
    example = "geco train-micro instantmesh --out runs/micro"
    parser = _verb(verbs, "train-micro", _train_micro, about, example)
    parser.add_argument("system", help="instantmesh (the only one yet)")
    parser.add_argument("--out", default="runs/micro", help="training folder; reused to resume")
    parser.add_argument("--install", action="store_true", help="put the weights into the package")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the recipe")


def _add_doctor(verbs: argparse._SubParsersAction) -> None:
    about = "Check this machine: Python, torch, Ray, GPU, threads, disk, accelerators."
    parser = _verb(verbs, "doctor", _doctor, about, "geco doctor --out runs")
    parser.add_argument("--out", default=".", help="where runs will be written (default: here)")


def _suggest_verb(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    verbs = ("plan", "generate", "status", "report", "train-micro", "doctor")
    if arguments and not arguments[0].startswith("-") and arguments[0] not in verbs:
        near = difflib.get_close_matches(arguments[0], verbs, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"verbs: {', '.join(verbs)}"
        parser.error(f"there is no verb {arguments[0]!r}; {hint}")


if __name__ == "__main__":
    sys.exit(main())
