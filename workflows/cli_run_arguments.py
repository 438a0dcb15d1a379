"""The arguments of the `geco` verbs that work on a run that exists already."""

from __future__ import annotations

from workflows import cli_verbs
from workflows.cli_parsing import Verbs, add_execution, add_run, count, new_verb


def add_status(verbs: Verbs) -> None:
    """Add `geco status`."""
    parser = new_verb(
        verbs,
        cli_verbs.status,
        "Print the state of a run, read from its store alone.",
        "RUN [--json] [s3.key=value ...]",
        "runs/photos",
    )
    add_run(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable")


def add_retry(verbs: Verbs) -> None:
    """Add `geco retry`."""
    parser = new_verb(
        verbs,
        cli_verbs.retry,
        "Make failed rows again, by reason. All other rows stay as they are.",
        "RUN (--reason R ... | --all-failed) [options] [key=value ...]",
        "runs/photos --reason timed_out --reason crashed item_timeout_s=1800",
    )
    add_run(parser, "key=value", "e.g. workers=2 s3.endpoint_url=URL")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--reason", action="append", metavar="R", help="rows that failed so; may be repeated"
    )
    which.add_argument("--all-failed", action="store_true", help="every failed row")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be made, make nothing"
    )
    parser.add_argument("--config", metavar="YAML", help="settings file; what the run pins is kept")
    add_execution(parser)


def add_verify(verbs: Verbs) -> None:
    """Add `geco verify`."""
    parser = new_verb(
        verbs,
        cli_verbs.verify,
        "Check that every manifest row is there once and all digests hold; exit 1 if not.",
        "RUN [--fast] [--json] [--threads N] [s3.key=value ...]",
        "runs/photos --fast",
    )
    add_run(parser)
    parser.add_argument("--fast", action="store_true", help="listings and footers only, no rows")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--threads", type=count, default=4, metavar="N", help="(default: 4)")


def add_repair(verbs: Verbs) -> None:
    """Add `geco repair`."""
    parser = new_verb(
        verbs,
        cli_verbs.repair,
        "Rebuild done records from parts, remove what no reader uses; no row is lost.",
        "RUN [--dry-run] [--remake N] [s3.key=value ...]",
        "runs/photos --dry-run",
    )
    add_run(parser)
    parser.add_argument(
        "--remake",
        type=int,
        action="append",
        metavar="N",
        help="give this shard up, to be made again",
    )
    parser.add_argument("--dry-run", action="store_true", help="list the actions, change nothing")


def add_report(verbs: Verbs) -> None:
    """Add `geco report`."""
    parser = new_verb(
        verbs,
        cli_verbs.report,
        "Write RUN/report/index.html: gallery, failures by reason, timing.",
        "RUN [key=value ...]",
        "runs/photos",
    )
    add_run(parser, "key=value", "s3.* and fetch.* settings, e.g. s3.endpoint_url=URL")


def add_export(verbs: Verbs) -> None:
    """Add `geco export`."""
    parser = new_verb(
        verbs,
        cli_verbs.export,
        "Copy the rows into few clean Parquet files. The same command again resumes.",
        "RUN --out URI [options] [s3.key=value ...]",
        "runs/photos --out datasets/photos --glb-folder",
    )
    add_run(parser)
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
        type=count,
        metavar="N",
        help="(default: as many as make files of 512 MB)",
    )
    parser.add_argument("--glb-folder", action="store_true", help="also write glb/<id>.glb files")


def add_evaluate(verbs: Verbs) -> None:
    """Add `geco evaluate`."""
    parser = new_verb(
        verbs,
        cli_verbs.evaluate,
        "Score the meshes of a run against references; exit 1 if an object has no score.",
        "RUN --reference PATH [options] [key=value ...]",
        "runs/gso --reference gso/ --protocol crm --with lpips",
    )
    add_run(parser, "key=value", "protocol.* and s3.*, e.g. protocol.reference_up=z")
    parser.add_argument(
        "--reference",
        required=True,
        metavar="PATH",
        help="folder of <item_id>.glb|.obj|.ply, or a .csv or .parquet table",
    )
    parser.add_argument("--protocol", default="geco", help="geco (default), geco-six or crm")
    parser.add_argument("--align", help="none, box, centroid or icp, instead of the protocol's")
    parser.add_argument("--limit", metavar="N", help="objects, or all (default: the protocol's)")
    parser.add_argument("--with", dest="extras", metavar="A,B", help="lpips, lpips-alex, clip, fid")
    parser.add_argument("--metric-weights", metavar="FOLDER", help="(default: weights/metrics)")
    parser.add_argument("--against", metavar="RUN2", help="paired differences to another run")
    parser.add_argument("--out", metavar="FILE", help="(default: RUN/evaluation/<protocol>.json)")
