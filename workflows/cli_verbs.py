"""What each `geco` verb does with its arguments: call one function, print, choose the exit code.

Everything is imported where it is used: `geco --help` and `geco status` must not wait for torch or
Ray.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geco_core.config.run import RunConfig

OK, OVER_LIMIT = 0, 1
FLAGS = ("system", "preset", "manifest", "out", "workers", "engine", "max_failure_rate")


def flag_words(options: Namespace) -> list[str]:
    """The flags that were given, as `key=value` words."""
    given = {name: getattr(options, name, None) for name in FLAGS}
    return [f"{name}={json.dumps(value)}" for name, value in given.items() if value is not None]


def run_config(options: Namespace) -> RunConfig:
    """Defaults, then the YAML file, then `key=value` words, then flags. Raises `ConfigError`."""
    from geco_core.config.load import load
    from geco_core.config.run import RunConfig

    return load(RunConfig, options.config, [*options.overrides, *flag_words(options)])


def store_config(options: Namespace, *groups: str) -> RunConfig:
    """The settings of a verb that only reads a run: `s3.key=value` words, and those of `groups`.

    Raises:
        ConfigError: a word of another kind, or an unknown setting.
    """
    from geco_core.config.load import load
    from geco_core.config.run import RunConfig
    from geco_core.errors import ConfigError

    allowed = ("s3", *groups)
    for word in options.overrides:
        if word.partition(".")[0] not in allowed:
            raise ConfigError(
                f"{word.partition('=')[0]!r} is no setting of geco {options.verb}",
                remedy=f"it takes {' and '.join(f'{name}.*' for name in allowed)} only",
            )
    return load(RunConfig, None, options.overrides)


def plan(options: Namespace) -> int:
    """`geco plan`."""
    from workflows.plan import preview

    sys.stdout.write(preview(run_config(options), options.seconds_per_item))
    return OK


def generate(options: Namespace) -> int:
    """`geco generate`."""
    from workflows import generate as workflow
    from workflows.outcome import exit_code, summary

    config = run_config(options)
    result = workflow.generate(config)
    sys.stdout.write(summary(result, config.out, config.max_failure_rate))
    return exit_code(result, config.max_failure_rate)


def targets(options: Namespace) -> int:
    """`geco targets`."""
    from geco_core.config.distill import DistillConfig
    from geco_core.config.load import load
    from workflows.outcome import exit_code, summary
    from workflows.targets import targets as make_targets
    from workflows.targets import targets_run

    config = load(DistillConfig, options.config, options.overrides)
    names = ("workers", "engine", "max_failure_rate")
    given = {name: getattr(options, name) for name in names}
    words = [f"{name}={json.dumps(v)}" for name, v in given.items() if v is not None]
    limit = targets_run(config, options.manifest, options.out, words).max_failure_rate
    result = make_targets(config, options.manifest, options.out, words=words)
    sys.stdout.write(summary(result, options.out, limit))
    return exit_code(result, limit)


def distill(options: Namespace) -> int:
    """`geco distill`."""
    from workflows import distill as workflow
    from workflows.distill_plan import preview

    config = workflow.distill_config(options.preset, options.config, options.overrides, options.out)
    if options.plan:
        sys.stdout.write(preview(config))
        return OK
    wanted = options.steps.split(",") if options.steps else None
    result = workflow.distill(config, wanted=wanted)
    sys.stdout.write(workflow.summary(result, config.out))
    return workflow.exit_code(result)


def train(options: Namespace) -> int:
    """`geco train`."""
    from workflows import train as workflow
    from workflows.train_plan import preview

    config = workflow.training_config(
        options.preset, options.config, options.overrides, options.data, options.out
    )
    if options.plan:
        sys.stdout.write(preview(config))
        return OK
    result = workflow.train(config, objects=options.make_data or 0)
    sys.stdout.write(workflow.summary(result, config))
    return workflow.exit_code(result)


def status(options: Namespace) -> int:
    """`geco status`."""
    from workflows.status import status_json, status_text

    show = status_json if options.json else status_text
    sys.stdout.write(show(options.run_folder, store_config(options).s3))
    return OK


def retry(options: Namespace) -> int:
    """`geco retry`."""
    from workflows.outcome import exit_code, summary
    from workflows.retry import RetryWish, preview_retry, retry_run

    words = [*options.overrides, *flag_words(options)]
    wish = RetryWish.parse(options.reason or (), every=options.all_failed)
    if options.dry_run:
        sys.stdout.write(preview_retry(options.run_folder, wish, options.config, words))
        return OK
    result, limit = retry_run(options.run_folder, wish, options.config, words)
    if result is None:
        reasons = "" if options.all_failed else f" as {' or '.join(options.reason)}"
        sys.stdout.write(f"nothing to make again: no row failed{reasons}\n")
        return OK
    resume = "geco generate makes the items that are missing"
    sys.stdout.write(summary(result, options.run_folder, limit, resume=resume))
    return exit_code(result, limit)


def verify(options: Namespace) -> int:
    """`geco verify`."""
    from workflows.verify import verification_json, verification_text, verify_uri

    result = verify_uri(
        options.run_folder, store_config(options).s3, fast=options.fast, threads=options.threads
    )
    sys.stdout.write((verification_json if options.json else verification_text)(result))
    return OK if result.sound else OVER_LIMIT


def repair(options: Namespace) -> int:
    """`geco repair`."""
    from workflows.repair import repair_text

    text = repair_text(
        options.run_folder,
        store_config(options).s3,
        dry_run=options.dry_run,
        remake=options.remake or (),
    )
    sys.stdout.write(text)
    return OK


def report(options: Namespace) -> int:
    """`geco report`."""
    from workflows.distill_record import is_distillation
    from workflows.report import build_report

    config = store_config(options, "fetch")
    if is_distillation(options.run_folder, config.s3):
        from workflows.distill_report import build_distill_report

        sys.stdout.write(f"{build_distill_report(options.run_folder, s3=config.s3)}\n")
        return OK
    page = build_report(options.run_folder, s3=config.s3, fetch=config.fetch)
    sys.stdout.write(f"{page}\n")
    return OK


def export(options: Namespace) -> int:
    """`geco export`."""
    from workflows.export import export_uri

    columns = options.columns.split(",") if options.columns else None
    text = export_uri(
        options.run_folder,
        options.out,
        store_config(options).s3,
        status=options.status,
        columns=columns,
        rows_per_file=options.rows_per_file,
        glb_folder=options.glb_folder,
    )
    sys.stdout.write(text)
    return OK


def evaluate(options: Namespace) -> int:
    """`geco evaluate`."""
    from workflows.evaluate import evaluate_uri
    from workflows.evaluate_text import evaluation_text
    from workflows.evaluate_wish import evaluation_wish

    wish = evaluation_wish(options)
    result, comparison, written = evaluate_uri(
        options.run_folder,
        wish,
        store_config(options).s3,
        against=options.against or "",
        out=options.out or "",
    )
    sys.stdout.write(evaluation_text(result, comparison, wish.protocol, written))
    return OK if result.complete and result.objects else OVER_LIMIT


def convert(options: Namespace) -> int:
    """`geco convert`."""
    from workflows.convert import run_convert, run_convert_family

    if options.family or options.white_unet or options.config:
        _refuse_generic(options)
        text = run_convert_family(
            options.source,
            options.out,
            options.family or "",
            white_unet=options.white_unet,
            config=options.config,
            sha256=options.sha256,
        )
        sys.stdout.write(text)
        return OK
    text = run_convert(
        options.source,
        options.out,
        trusted=options.i_trust_this_file,
        key=options.key,
        memory_mb=options.memory_mb,
        timeout_s=options.timeout_s,
        sha256=options.sha256,
    )
    sys.stdout.write(text)
    return OK


def _refuse_generic(options: Namespace) -> None:
    """Flags of the generic conversion mean nothing to an adapter. Raises `ConfigError`."""
    from geco_core.errors import ConfigError

    if options.i_trust_this_file or options.key:
        raise ConfigError(
            "--i-trust-this-file and --key do not go with --as",
            remedy="convert the file without --as first, then the result with it",
        )


def train_micro(options: Namespace) -> int:
    """`geco train-micro`."""
    from rich.console import Console

    if options.system == "geco":
        from workflows.train_geco import train_geco

        exported = train_geco(Path(options.out), options.overrides, install=options.install)
    else:
        from workflows.train_micro import train_micro as train

        exported = train(
            options.system,
            Path(options.out),
            options.overrides,
            install=options.install,
            console=Console(file=sys.stderr),
        )
    sys.stdout.write(f"{exported}\n")
    return OK


def doctor(options: Namespace) -> int:
    """`geco doctor`."""
    from workflows.doctor import diagnose

    run = run_config(options) if options.config or options.overrides else None
    text, healthy = diagnose(Path(options.out), options.address, run)
    sys.stdout.write(text)
    return OK if healthy else OVER_LIMIT
