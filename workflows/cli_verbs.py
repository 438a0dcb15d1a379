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
    from workflows.report import build_report

    config = store_config(options, "fetch")
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


def convert(options: Namespace) -> int:
    """`geco convert`."""
    from workflows.convert import run_convert

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


def train_micro(options: Namespace) -> int:
    """`geco train-micro`."""
    from rich.console import Console

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

    text, healthy = diagnose(Path(options.out), options.address)
    sys.stdout.write(text)
    return OK if healthy else OVER_LIMIT
