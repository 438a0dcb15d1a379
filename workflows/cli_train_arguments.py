"""The arguments of `geco train`."""

from __future__ import annotations

from workflows import cli_verbs
from workflows.cli_parsing import Verbs, count, new_verb


def add_train(verbs: Verbs) -> None:
    """Add `geco train`."""
    parser = new_verb(
        verbs,
        cli_verbs.train,
        "Train one of CRM's networks on objects. The same command again resumes.",
        "(--preset NAME | --config YAML) --data FOLDER --out RUN [--plan] [key=value ...]",
        "--preset crm-micro-smoke --data runs/objects --make-data 8 --out runs/views",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--preset", help="crm-views, crm-ccm, crm-reconstructor (the paper's) or crm-micro-smoke"
    )
    source.add_argument("--config", metavar="YAML", help="settings file")
    parser.add_argument(
        "--data", metavar="FOLDER", help="objects in CRM's layout: a folder or s3://bucket/prefix"
    )
    parser.add_argument(
        "--make-data", type=count, metavar="N", help="write N procedural objects there first"
    )
    parser.add_argument(
        "--out", metavar="RUN", help="a folder or s3://bucket/prefix; given again, it goes on"
    )
    parser.add_argument(
        "--plan", action="store_true", help="print what would be read and the settings; do nothing"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=value",
        help="settings, e.g. training=ccm updates.steps=200 train.workers=2 init.network=FILE",
    )
