"""The condition images of a distillation: pictures of procedural objects as Parquet manifests.

A manifest is a function of its split, its range and the side of the pictures: the same bytes every
time, with the same libraries.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from geco_core.config.distill import ConditionsConfig
from geco_core.shapes.dataset import condition_elevation
from geco_core.shapes.object import Split, make_object, object_seed
from geco_core.shapes.views import condition_view
from infra.stages import digest_of, put_stage_file
from workflows.dag import StepContext, StepOutputs

ROWS_PER_GROUP = 256
# Pictures are framed and scaled down by whoever reads them; 128 is what the micro models learned.
MIN_SIDE = 128
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.binary()),
        ("caption", pa.string()),
        ("class_name", pa.string()),
        ("object_seed", pa.int64()),
    ]
)


def make_conditions(
    conditions: ConditionsConfig,
    side: int,
    context: StepContext,
    progress: Callable[[int, int], object],
) -> StepOutputs | None:
    """The step `conditions`: a manifest of training images, and one of held-out objects.

    Args:
        conditions: how many; a given manifest is passed on instead of the first.
        side: of the pictures in pixels.
        context: of the step.
        progress: hears how many of all are made.

    Returns:
        `train` and `heldout`: key in the run folder or address of the manifest, "" for none, and
        their rows. None when stopped.
    """
    wanted: list[tuple[str, Split, range]] = []
    if not conditions.manifest:
        first = conditions.first
        wanted.append(("train", "train", range(first, first + conditions.objects)))
    if conditions.heldout:
        wanted.append(("heldout", "heldout", range(conditions.heldout)))
    total, made = sum(len(numbers) for _, _, numbers in wanted), 0
    values: dict[str, object] = {"train": conditions.manifest, "heldout": "", "side": side}
    digests: dict[str, str] = {}
    for name, split, numbers in wanted:
        stream = io.BytesIO()
        with pq.ParquetWriter(stream, SCHEMA, compression="zstd") as writer:
            for table in condition_tables(split, numbers, side):
                if context.stop.requested:
                    return None
                writer.write_table(table)
                made += table.num_rows
                progress(made, total)
        key = context.key(f"{name}.parquet")
        put_stage_file(context.storage, key, stream.getvalue())
        values |= {name: key, f"{name}_rows": len(numbers)}
        digests[key] = digest_of(context.storage, key)
    return StepOutputs(values, digests, {"unit": "object", "count": total})


def condition_tables(split: Split, numbers: range, side: int) -> Iterator[pa.Table]:
    """Rows of a manifest, a row group at a time.

    Args:
        split: of the objects.
        numbers: of the objects in their split.
        side: of the pictures in pixels.
    """
    for start in range(numbers.start, numbers.stop, ROWS_PER_GROUP):
        part = range(start, min(start + ROWS_PER_GROUP, numbers.stop))
        rows = [_row(split, number, side) for number in part]
        yield pa.Table.from_pylist(rows, schema=SCHEMA)


def _row(split: Split, number: int, side: int) -> dict[str, object]:
    seed = object_seed(split, number)
    made = make_object(seed)
    stream = io.BytesIO()
    picture = condition_view(made, condition_elevation(seed), side)
    Image.fromarray(picture).save(stream, format="PNG")
    return {
        "id": f"{split}-{number:06d}",
        "image": stream.getvalue(),
        "caption": made.caption,
        "class_name": made.class_name,
        "object_seed": seed,
    }
