"""The command of the full-size measurement, at a size that takes seconds."""

from __future__ import annotations

import mmap
from pathlib import Path

from benchmarks.full_size_cpu import generate, watched
from benchmarks.peaks import Stages
from benchmarks.random_weights import write_published, write_published_crm
from geco_core.config.load import to_dict
from geco_core.config.run import model_overrides
from geco_core.systems.instantmesh import InstantMeshSystem
from tests.geco_core.checkpoints.published import TINY_VIEWS, tiny_reconstructor
from tests.geco_core.checkpoints.published_crm import tiny_crm_chain
from tests.geco_core.multiview.crm_models import CRM
from tests.geco_core.reconstruct.crm_models import TINY


def test_random_weights_go_through_the_whole_chain(tmp_path: Path) -> None:
    sizes = tiny_reconstructor()
    write_published(tmp_path / "weights", TINY_VIEWS, sizes, seed=0)
    tiny = {"multiview": to_dict(TINY_VIEWS), "reconstructor": to_dict(sizes)}
    words = [f"model.{line}" for line in model_overrides(tiny)]
    words += ["model.extraction.grid_res=24", "finish_isolation=inline", "thumbnail_size=0"]
    result = generate(tmp_path / "weights", tmp_path, words)
    assert set(result["stages"]) == {"load", "prepare", "multiview", "reconstruct", "extract"}
    assert all(row["peak_mb"] > 50 for row in result["stages"].values())
    assert result["row_seconds"]["multiview"] > 0
    assert result["row_seconds"]["finish"] > 0
    assert result["mesh"]["n_faces"] > 500


def test_random_weights_of_crm_go_through_it_too(tmp_path: Path) -> None:
    write_published_crm(tmp_path / "weights", CRM, TINY, seed=0)
    words = [f"model.{line}" for line in model_overrides(tiny_crm_chain())]
    words += ["finish_isolation=inline", "thumbnail_size=0"]
    result = generate(tmp_path / "weights", tmp_path, words, "crm")
    stages = {"load", "prepare", "views", "ccm", "reconstruct", "extract"}
    assert set(result["stages"]) == stages
    assert result["row_seconds"]["multiview"] > 0
    assert result["mesh"]["n_faces"] > 100


def test_watching_ends_with_its_block() -> None:
    before = InstantMeshSystem.multiview
    with watched(Stages()):
        assert InstantMeshSystem.multiview is not before
    assert InstantMeshSystem.multiview is before


def _touch(count: int) -> None:
    """Fresh memory of so many bytes; an allocator may hand out pages that are resident already."""
    with mmap.mmap(-1, count) as memory:
        memory.write(b"\1" * count)


def test_peaks_are_those_of_their_stage() -> None:
    stages = Stages()
    with stages.stage("much"):
        _touch(64 * 2**20)
    with stages.stage("little"):
        _touch(mmap.PAGESIZE)
    with stages.stage("much"):
        pass
    rows = stages.rows
    assert rows["much"]["peak_mb"] - rows["little"]["peak_mb"] > 30
    assert list(rows) == ["much", "little"]
