"""`make demo`: held-out procedural objects, seen from one side, become GLBs in Parquet and a
report.

Writes `OUT/images/*.png` and `OUT/manifest.parquet`; `geco generate` and `geco report` do the rest.
The objects come from the held-out split: no micro model has seen them.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from geco_core.shapes.dataset import make_example
from geco_core.shapes.object import object_seed


def write_demo_manifest(folder: Path, count: int, first: int = 0, image_size: int = 256) -> Path:
    """Render `count` held-out condition images (RGBA PNG) and a Parquet manifest that names them.

    Args:
        folder: created when missing.
        count: number of objects.
        first: index of the first object in the held-out split.
        image_size: pixels per side.

    Returns:
        Path of the manifest: columns `item_id`, `image` (relative path), `caption`, `class_name`.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[str]] = {"item_id": [], "image": [], "caption": [], "class_name": []}
    for index in range(first, first + count):
        example = make_example(
            object_seed("heldout", index), condition_size=image_size, n_sdf=2, n_color=1
        )
        item_id = f"heldout-{index:05d}"
        buffer = io.BytesIO()
        Image.fromarray(example.condition, "RGBA").save(buffer, format="PNG")
        (images / f"{item_id}.png").write_bytes(buffer.getvalue())
        rows["item_id"].append(item_id)
        rows["image"].append(f"images/{item_id}.png")
        rows["caption"].append(example.caption)
        rows["class_name"].append(example.class_name)
    path = folder / "manifest.parquet"
    pq.write_table(pa.table(rows), path)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Console entry: `python -m workflows.demo --out demo-output --count 16`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args(arguments)
    write_demo_manifest(options.out, options.count, options.first)
    return 0


if __name__ == "__main__":
    sys.exit(main())
