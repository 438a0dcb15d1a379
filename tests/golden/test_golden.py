"""Every committed golden case passes; the runner itself notices what it must notice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import tests.golden.__main__ as runner
import tests.golden.adapters  # noqa: F401  (registers the adapters)
from tests.golden import registry
from tests.golden.registry import (
    Adapter,
    Case,
    case_paths,
    compare_close,
    compare_point_sets,
    evaluate,
    load_case,
)

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("path", case_paths([DATA]), ids=lambda p: p.stem)
def test_committed_case(path: Path) -> None:
    rows = evaluate(path)
    assert rows is not None, f"no adapter claims {path.stem}"
    assert rows
    failed = [f"{r.output}: {r.error:.3e} > {r.tolerance} {r.note}" for r in rows if not r.ok]
    assert not failed, "\n".join(failed)


def test_every_expected_family_is_committed() -> None:
    names = {p.stem for p in case_paths([DATA])}
    families = {
        "cameras",
        "flexicubes_random",
        "image_prep",
        "instantmesh_encoder_tiny",
        "instantmesh_lrm_tiny",
    }
    families |= {
        "instantnerf_tiny",
        "mesh_export",
        "zero123plus_refattn_tiny",
        "keys_instant_mesh_large",
    }
    families |= {
        "ccm_views",
        "clip_tiny",
        "crm_input_assembly",
        "ddim_schedule",
        "imagedream_blocks",
        "keys_diffusion_shared_rest",
        "keys_pixel_diffusion_unet",
        "ortho_cameras",
        "preprocessing",
        "training_transforms",
    }
    assert families <= names


class _Doubler(Adapter):
    """Stands in for a model: knows `y = 2 x` and nothing about other outputs."""

    def run(self, case: Case) -> dict[str, torch.Tensor]:
        if bool(case.meta.get("explode")):
            raise RuntimeError("boom")
        return {"y": 2 * case.inputs["x"] * case.weights("scale.")["one"]}


@pytest.fixture
def doubler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ADAPTERS", {"dou": Adapter, "double": _Doubler})
    monkeypatch.setattr(
        registry, "_BROKEN", {"broken": "adapter.py does not import: ImportError: x"}
    )


def _write(folder: Path, name: str, outputs: dict[str, torch.Tensor], **meta: object) -> Path:
    x = torch.tensor([1.0, 2.0], dtype=torch.float16)
    tensors = {
        "in/x": x,
        "sd/scale.one": torch.ones(1),
        **{f"out/{k}": v for k, v in outputs.items()},
    }
    save_file(tensors, folder / f"{name}.safetensors")
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"rtol": 0.0, "atol": 1e-6, **meta}))
    return path


@pytest.mark.usefixtures("doubler")
def test_runner_passes_and_fails_by_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = _write(tmp_path, "double_a", {"y": torch.tensor([2.0, 4.0])})
    assert runner.main([str(good)]) == 0
    assert capsys.readouterr().out.endswith("1 passed, 0 failed\n")
    _write(tmp_path, "double_b", {"y": torch.tensor([2.0, 4.1]), "z": torch.zeros(1)})
    assert runner.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "not computed by the adapter" in printed
    assert printed.endswith("1 passed, 2 failed\n")


@pytest.mark.usefixtures("doubler")
def test_errors_become_failed_rows_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path, "double_a", {"y": torch.tensor([2.0, 4.0])}, explode=True)
    _write(tmp_path, "broken_b", {"y": torch.zeros(2)})
    _write(tmp_path, "double_c", {"y": torch.tensor([2.0, 4.0])})
    (tmp_path / "double_d.safetensors").write_bytes(
        (tmp_path / "double_c.safetensors").read_bytes()
    )
    assert runner.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "RuntimeError: boom" in printed
    assert "does not import" in printed
    assert "double_d.json is missing" in printed
    assert printed.endswith("1 passed, 3 failed\n")


@pytest.mark.usefixtures("doubler")
def test_case_without_adapter_fails_only_under_strict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _write(tmp_path, "unknown", {"y": torch.zeros(2)})
    assert runner.main([str(path)]) == 0
    assert "no adapter" in capsys.readouterr().out
    assert runner.main([str(path), "--strict"]) == 1


@pytest.mark.usefixtures("doubler")
def test_weights_can_lie_in_a_sibling_file(tmp_path: Path) -> None:
    _write(tmp_path, "double_a", {"y": torch.tensor([2.0, 4.0])})
    save_file(
        {"in/x": torch.tensor([3.0]), "out/y": torch.tensor([6.0])},
        tmp_path / "double_b.safetensors",
    )
    (tmp_path / "double_b.json").write_text(json.dumps({"weights": {"from": "double_a"}}))
    rows = evaluate(tmp_path / "double_b.json")
    assert rows is not None
    assert [r.ok for r in rows] == [True]


@pytest.mark.usefixtures("doubler")
def test_weights_can_lie_in_several_files_named_by_a_list(tmp_path: Path) -> None:
    _write(tmp_path, "double_a", {"y": torch.tensor([2.0, 4.0])}, groups=8)
    _write(tmp_path, "other", {})
    save_file({"sd/more.two": torch.ones(2)}, tmp_path / "other.safetensors")
    save_file(
        {"in/x": torch.tensor([3.0]), "out/y": torch.tensor([6.0])},
        tmp_path / "double_b.safetensors",
    )
    named = {"state_dict_from": ["double_a.safetensors", "other.safetensors"]}
    (tmp_path / "double_b.json").write_text(json.dumps(named))
    case = load_case(tmp_path / "double_b.json")
    assert sorted(case.weights()) == ["more.two", "scale.one"]
    assert [source.meta.get("groups") for source in case.sources] == [8, None]
    rows = evaluate(tmp_path / "double_b.json")
    assert rows is not None
    assert [r.ok for r in rows] == [True]


def test_a_case_with_its_own_weights_is_its_source(tmp_path: Path) -> None:
    case = load_case(_write(tmp_path, "double_a", {"y": torch.zeros(1)}))
    assert len(case.sources) == 1
    assert case.sources[0] is case


def test_an_inventory_may_be_bare() -> None:
    class One(registry.InventoryAdapter):
        def shapes(self, case: Case) -> dict[str, tuple[int, ...]]:
            return {"a": (2, 3)}

    for meta in ({"a": [2, 3]}, {"shapes": {"a": [2, 3]}, "config": {}}):
        assert One().rows(Case("keys", meta))[0].ok
    assert not One().rows(Case("keys", {"a": [3, 2]}))[0].ok


def test_a_missing_path_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        runner.main([str(tmp_path / "nowhere")])
    assert stopped.value.code == 2


def test_compare_close_sees_nan_shape_and_integers() -> None:
    nan = torch.tensor([float("nan"), 1.0])
    assert compare_close(nan, nan, 0, 0) == (0.0, True)
    assert not compare_close(nan, torch.tensor([0.0, 1.0]), 1.0, 1.0)[1]
    assert not compare_close(torch.zeros(2), torch.tensor([0.0, float("inf")]), 1.0, 1.0)[1]
    assert not compare_close(torch.zeros(2), torch.zeros(2, 1), 0, 0)[1]
    assert compare_close(torch.tensor([1, 3]), torch.tensor([1, 2]), 0, 0) == (1.0, False)


def test_point_sets_ignore_order_only() -> None:
    points = torch.eye(3)
    assert compare_point_sets(points.flip(0), points, 1e-6) == (0.0, True)
    assert not compare_point_sets(points + 0.1, points, 1e-3)[1]
