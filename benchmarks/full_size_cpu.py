"""One photograph through `geco generate` at full size on a CPU: seconds and peak memory per stage.

    OMP_NUM_THREADS=2 python -m benchmarks.full_size_cpu [--system geco] [--dtype float32]
        [--threads 2] [--json]

The chain is the preset `geco/full`, Zero123++ v1.2 in one step and the large InstantMesh
reconstructor, or with `--system crm` the preset `crm/full` with two DDIM steps per stage instead of
50. Weights are random (`benchmarks.random_weights`), 4.6 or 8.3 GB in a temporary folder. The
photograph is a drawn object on white; the mesh is the sphere that stands in for a trained field.
Peaks are of the whole process: interpreter, weights and activations. The mesh is finished in a
child process, whose memory is counted apart.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.machine import print_machine, save_result
from benchmarks.peaks import Stages
from benchmarks.random_weights import CRM_SPHERE, PIPELINE, RECONSTRUCTOR, SPHERE
from geco_core.multiview.crm import CrmDiffusion
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.reconstruct.planes import PlanesModel
from geco_core.shapes.object import make_object, object_seed
from geco_core.shapes.views import condition_view
from geco_core.systems.crm import CrmSystem
from geco_core.systems.instantmesh import InstantMeshSystem
from workflows import cli, execute

Step = tuple[Any, str, str]  # object, name of its method, stage

ITEM = "photograph"
PHOTO_SIZE = 512
PATIENCE = ("item_timeout_s=14400", "start_timeout_s=3600")


@dataclass(frozen=True)
class Chain:
    """A system at full size.

    Attributes:
        weights: `--chain` of `benchmarks.random_weights`.
        references: of the multi-view weights and of the reconstructor, below their folder.
        words: overrides of its preset.
        steps: what is measured.
    """

    weights: str
    references: tuple[str, str]
    words: tuple[str, ...]
    steps: tuple[Step, ...]


CHAINS = {
    "geco": Chain(
        "instantmesh",
        (PIPELINE, RECONSTRUCTOR),
        SPHERE,
        (
            (InstantMeshSystem, "prepare", "prepare"),
            (InstantMeshSystem, "multiview", "multiview"),
            (PlanesModel, "forward_planes", "reconstruct"),
            (InstantMeshSystem, "_meshes", "extract"),
        ),
    ),
    "crm": Chain(
        "crm",
        ("", ""),
        (*CRM_SPHERE, "diffusion.views_sampler.steps=2", "diffusion.ccm_sampler.steps=2"),
        (
            (CrmSystem, "prepare", "prepare"),
            (CrmDiffusion, "make_views", "views"),
            (CrmDiffusion, "make_ccms", "ccm"),
            (CrmReconstructor, "forward_planes", "reconstruct"),
            (CrmSystem, "_meshes", "extract"),
        ),
    ),
}


def photograph(seed: int) -> bytes:
    """A drawn object on a white background, PNG without alpha."""
    rgba = Image.fromarray(condition_view(make_object(seed), 15.0, PHOTO_SIZE), "RGBA")
    canvas = Image.new("RGB", rgba.size, "white")
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    stream = io.BytesIO()
    canvas.save(stream, format="PNG")
    return stream.getvalue()


@contextmanager
def watched(stages: Stages, system: str = "geco") -> Iterator[None]:
    """Measure the steps of a worker that runs in this process."""
    steps: tuple[Step, ...] = ((execute, "build_worker", "load"), *CHAINS[system].steps)

    def measured(call: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with stages.stage(stage):
                return call(*args, **kwargs)

        return run

    patches = [patch.object(o, name, measured(getattr(o, name), s)) for o, name, s in steps]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


def generate(weights: Path, folder: Path, words: list[str], system: str = "geco") -> dict[str, Any]:
    """One row through `geco generate`: stages, the row, and the memory of the finishing child.

    Raises:
        RuntimeError: the command did not end well.
    """
    manifest, run = folder / "manifest.parquet", folder / "run"
    columns = {"id": [ITEM], "image": [photograph(object_seed("heldout", 0))]}
    pq.write_table(pa.table(columns), manifest)
    stages = Stages()
    command = ["generate", "--system", system, "--preset", "full", "--engine", "inline"]
    command += ["--manifest", str(manifest), "--out", str(run), *PATIENCE, "model.device=cpu"]
    views, surface = (weights / name for name in CHAINS[system].references)
    command += [f"model.weights.multiview={views}", f"model.weights.reconstructor={surface}"]
    command += [*(f"model.{word}" for word in CHAINS[system].words), *words]
    before_s = time.process_time()
    with watched(stages, system):
        code = cli.main(command)
    cpu_s = time.process_time() - before_s
    (part,) = (run / "assets").glob("*.parquet")
    (row,) = pq.read_table(part).to_pylist()
    if code or row["status"] != "done":
        raise RuntimeError(f"exit code {code}: {row['status']} {row['reason']} {row['message']}")
    children_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "stages": stages.rows,
        "row_seconds": {k: round(v, 3) for k, v in row["timing"].items() if v is not None},
        "cpu_s": round(cpu_s, 1),
        "peak_mb": max(stage["peak_mb"] for stage in stages.rows.values()),
        "finishing_child_peak_mb": round(children_kb / 1024, 1),
        "mesh": {key: row["mesh"][key] for key in ("n_vertices", "n_faces")},
        "glb_bytes": len(row["glb"]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size_cpu")
    parser.add_argument("--system", choices=tuple(CHAINS), default="geco")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", type=Path, help="a folder of `benchmarks.random_weights`")
    parser.add_argument("--json", type=Path, nargs="?", const=Path(), help="record the numbers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.weights is None:
            return _with_random_weights(Path(folder) / "weights", options.system)
        record = _measure(options, Path(folder))
    if options.json is not None:
        path = options.json if options.json.name else None
        name = "full_size_cpu" if options.system == "geco" else f"full_size_cpu_{options.system}"
        print(save_result(name, record, path))
    return 0


def _with_random_weights(weights: Path, system: str) -> int:
    """The same command on weights written here, each in a process that counts its own memory."""
    python = [sys.executable, "-m"]
    chain = ["--chain", CHAINS[system].weights]
    subprocess.run([*python, "benchmarks.random_weights", str(weights), *chain], check=True)
    again = [*python, "benchmarks.full_size_cpu", *sys.argv[1:], "--weights", str(weights)]
    return subprocess.run(again, check=False).returncode


def _measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    print_machine()
    record = {
        "preset": f"{options.system}/full",
        "weights": "random",
        "dtype": options.dtype,
        "threads": options.threads,
        "load_average_at_start": round(psutil.getloadavg()[0], 2),
        "free_memory_gb_at_start": round(psutil.virtual_memory().available / 1e9, 1),
    }
    torch.set_num_threads(options.threads)
    words = [f"model.dtype={options.dtype}", f"threads_per_replica={options.threads}"]
    result = generate(options.weights, folder, words, options.system)
    print(f"{'stage':12} {'seconds':>9} {'peak MB':>9}")
    for name, row in result["stages"].items():
        print(f"{name:12} {row['seconds']:9.2f} {row['peak_mb']:9.0f}")
    finish_s, finish_mb = result["row_seconds"]["finish"], result["finishing_child_peak_mb"]
    print(f"{'finish':12} {finish_s:9.2f} {finish_mb:9.0f}, mesh {result['mesh']}")
    return {**record, **result}


if __name__ == "__main__":
    sys.exit(main())
