"""The arguments of every `geco` verb. Nothing here imports more than `argparse` and the verbs."""

from __future__ import annotations

import argparse

from workflows import cli_verbs
from workflows.cli_distill_arguments import add_distill
from workflows.cli_parsing import (
    PROGRAM,
    Formatter,
    Verbs,
    add_execution,
    count,
    new_verb,
    positive,
)
from workflows.cli_run_arguments import (
    add_evaluate,
    add_export,
    add_repair,
    add_report,
    add_retry,
    add_status,
    add_verify,
)
from workflows.cli_train_arguments import add_train

__all__ = ["PROGRAM", "Formatter", "add_verbs"]

_OVERRIDES_HELP = "settings, e.g. seed=7 shard_size=32 model.sampler.steps=8"


def add_verbs(verbs: Verbs) -> None:
    """Add every verb, in the order in which a run meets them."""
    _add_plan(verbs)
    _add_generate(verbs)
    _add_targets(verbs)
    add_distill(verbs)
    add_train(verbs)
    add_status(verbs)
    add_retry(verbs)
    add_verify(verbs)
    add_repair(verbs)
    add_report(verbs)
    add_export(verbs)
    add_evaluate(verbs)
    _add_convert(verbs)
    _add_train_micro(verbs)
    _add_doctor(verbs)


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", help="Parquet, CSV, JSONL, a folder or a glob of images")
    parser.add_argument("--out", help="the run: a folder or s3://bucket/prefix; reused to resume")
    parser.add_argument("--system", help="geco, instantmesh (default), crm or noop")
    parser.add_argument("--preset", help="micro (default)")
    parser.add_argument(
        "--config", metavar="YAML", help="settings file; everything else overrides it"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=_OVERRIDES_HELP)


def _add_plan(verbs: Verbs) -> None:
    parser = new_verb(
        verbs,
        cli_verbs.plan,
        "Print items, duplicates, shards and estimated device-hours; make nothing.",
        "--manifest M [--out RUN] [options] [key=value ...]",
        "--manifest photos.csv columns.image=path",
    )
    _add_run_arguments(parser)
    parser.add_argument(
        "--seconds-per-item",
        type=positive,
        metavar="S",
        help="device seconds per item, if you know them",
    )


def _add_generate(verbs: Verbs) -> None:
    parser = new_verb(
        verbs,
        cli_verbs.generate,
        "Make a mesh of every manifest row. The same command again resumes.",
        "--manifest M --out RUN [options] [key=value ...]",
        "--manifest photos.parquet --out runs/photos --workers 2 seed=7",
    )
    _add_run_arguments(parser)
    add_execution(parser)


def _add_targets(verbs: Verbs) -> None:
    parser = new_verb(
        verbs,
        cli_verbs.targets,
        "Make teacher targets of every manifest row. The same command again resumes.",
        "--manifest M --out RUN [options] [key=value ...]",
        "--manifest photos/ --out runs/targets teacher.model.sampler.steps=75 targets.renders=8",
    )
    parser.add_argument(
        "--manifest", required=True, help="Parquet, CSV, JSONL, a folder or a glob of images"
    )
    parser.add_argument("--out", required=True, help="the run: a folder or s3://bucket/prefix")
    parser.add_argument("--config", metavar="YAML", help="settings file, as geco distill takes it")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings, e.g. seed=7 targets.store=s3://bucket/targets teacher.preset=full",
    )
    add_execution(parser)


def _add_convert(verbs: Verbs) -> None:
    parser = new_verb(
        verbs,
        cli_verbs.convert,
        "Turn a checkpoint of any format into safetensors, with digests.",
        "SOURCE --out FILE [--as FAMILY [--config YAML]] [options]",
        "instant_mesh_large.ckpt --out mesh.safetensors --as instant-mesh-large",
    )
    parser.add_argument("source", metavar="SOURCE", help="checkpoint file; with --as any reference")
    parser.add_argument("--out", required=True, metavar="FILE", help="safetensors file to write")
    parser.add_argument(
        "--as",
        dest="family",
        metavar="FAMILY",
        help="published weights: our names, every key accounted for (see docs/guide/weights.md)",
    )
    parser.add_argument(
        "--white-unet", default="", metavar="REF", help="U-Net to put in, with --as"
    )
    parser.add_argument("--config", metavar="YAML", help="sizes of the models, if not published")
    parser.add_argument(
        "--i-trust-this-file",
        action="store_true",
        help="allow a pickle that runs code: only for files whose origin you know",
    )
    parser.add_argument("--key", metavar="NAME", help="branch to take, e.g. state_dict")
    parser.add_argument("--sha256", default="", metavar="HEX", help="expected digest of SOURCE")
    parser.add_argument(
        "--memory-mb",
        type=count,
        default=16384,
        metavar="MB",
        help="memory limit of the reading process (default: 16384)",
    )
    parser.add_argument(
        "--timeout-s",
        type=positive,
        default=1800.0,
        metavar="S",
        help="time limit of the reading process (default: 1800)",
    )


def _add_train_micro(verbs: Verbs) -> None:
    parser = new_verb(
        verbs,
        cli_verbs.train_micro,
        "Train the micro weights from seeds on the CPU. The same command again resumes.",
        "SYSTEM [--out FOLDER] [--install] [key=value ...]",
        "instantmesh --out runs/micro",
    )
    parser.add_argument("system", metavar="SYSTEM", help="instantmesh, crm, or geco (distilled)")
    parser.add_argument("--out", default="runs/micro", help="training folder; reused to resume")
    parser.add_argument("--install", action="store_true", help="put the weights into the package")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="settings")


def _add_doctor(verbs: Verbs) -> None:
    parser = new_verb(
        verbs,
        cli_verbs.doctor,
        "Check this machine (Python, torch, Ray, GPU, threads, disk), and a run's weights.",
        "[--out FOLDER] [--address RAY] [--config YAML [key=value ...]]",
        "--out runs --config run.yaml",
    )
    parser.add_argument("--out", default=".", help="where runs will be written (default: here)")
    parser.add_argument("--address", metavar="RAY", help="also check this Ray cluster: host:port")
    parser.add_argument("--config", metavar="YAML", help="also check the weights of this run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of that run")
