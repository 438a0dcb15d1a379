"""The dataset card of a run: `README.md` beside the parts, for whoever finds the folder.

A pure function of what the store holds, so equal runs have equal cards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.run_state import RunState

_ROWS = """Every row of the manifest is one row here, whatever became of it. `glb` holds a binary
glTF (y up, front +z) whose digest is `glb_sha256`; `reason`, `message` and `stage` say why a row
has none. Settings, weights and environment are in `run.json` and `system.json`."""
_EXPORTED_ROWS = """Copied from a run, which holds one row for every row of its manifest; here are
those that are {statuses}. `glb` holds a binary glTF (y up, front +z) with digest `glb_sha256`."""
_READ = """```python
import pyarrow.parquet as pq

rows = pq.read_table({arguments})
```"""


def dataset_card(
    record: Mapping[str, Any], state: RunState, *, exported: Sequence[str] = ()
) -> str:
    """Markdown: what was made, by what, under which licences, and how to read it.

    Args:
        record: `run.json`.
        state: totals over the committed shards.
        exported: statuses of the rows, for the card of an export; empty for the run itself.
    """
    rows = int(record["manifest"]["rows"])
    system = record["config"]
    lines = [
        "# A dataset of meshes",
        "",
        (
            f"Made by GECO Forge with `{system['system']}-{system['preset']}`, run seed "
            f"{system['seed']}, from a manifest of {rows:,} rows."
        ),
        "",
        "| state | rows |",
        "|---|---|",
        *(f"| {status} | {state.counts[status]:,} |" for status in ("done", "failed", "skipped")),
        *([f"| not made yet | {rows - state.rows_done:,} |"] if state.rows_done < rows else []),
        "",
    ]
    if state.reasons:
        counts = sorted(state.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
        lines += ["| reason | rows |", "|---|---|", *(f"| {k} | {v:,} |" for k, v in counts), ""]
    licences = ", ".join(record["system"]["licences"]) or "none stated"
    lines += [
        (
            f"Licences of the weights: {licences}. The licences of the sources are those of the "
            "manifest's images and are not recorded here."
        ),
        "",
        _EXPORTED_ROWS.format(statuses=" or ".join(exported)) if exported else _ROWS,
        "",
        _READ.format(
            arguments='"data"' if exported else '"assets", columns=["item_id", "status", "glb"]'
        ),
        "",
    ]
    return "\n".join(lines)
