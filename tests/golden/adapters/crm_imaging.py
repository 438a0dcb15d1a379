"""CRM's pictures: preparation, training frames, camera vectors, and the reconstructor's input."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from geco_core.config.crm import FrameRigConfig
from geco_core.config.crm_reconstructor import CrmReconstructorConfig
from geco_core.imaging.content import (
    codec_pixels,
    drop_alpha,
    prepare_image,
    resize_content,
    vision_pixels,
)
from geco_core.imaging.relabel import training_frames
from geco_core.imaging.stroke import add_stroke
from geco_core.multiview.ortho_views import AXES, frame_cameras, ortho_pose, plane_coordinates
from geco_core.reconstruct import crm_input
from geco_core.reconstruct.crm_unet import InputNoise
from tests.golden.registry import Adapter, Case, GoldenError, adapter

PUBLISHED = CrmReconstructorConfig()


@adapter("preprocessing")
class Preprocessing(Adapter):
    """Every named input with its configuration, then the two encoders' pixels."""

    def run(self, case: Case) -> dict[str, Tensor]:
        """`NAME`, `NAME_vaeS`, `NAME_clipS_sK` (every K-th pixel), `pipeline_rgba_to_rgb`."""
        given = {name: value.numpy() for name, value in case.inputs.items()}
        pictures = {
            name: prepare_image(given[name], float(stated["foreground_ratio"]), _color(stated))
            for name, stated in case.meta["config"].items()
        }
        out = {name: torch.from_numpy(rgb.copy()) for name, rgb in pictures.items()}
        for name in case.outputs:
            if found := re.fullmatch(r"(\w+)_vae(\d+)", name):
                out[name] = codec_pixels(pictures[found[1]], int(found[2]))
            elif found := re.fullmatch(r"(\w+)_clip(\d+)_s(\d+)", name):
                step = int(found[3])
                pixels = vision_pixels(pictures[found[1]], int(found[2]))
                out[name] = pixels[:, ::step, step // 2 :: step]
            elif found := re.fullmatch(r"(\w+)_to_rgb", name):
                out[name] = torch.from_numpy(drop_alpha(given[found[1]]).copy())
        return out


def _color(stated: Mapping[str, Any]) -> tuple[int, int, int]:
    red, green, blue = (int(level) for level in stated["background"])
    return red, green, blue


@adapter("training_transforms")
class TrainingTransforms(Adapter):
    """Re-labelled frames, strokes and resized content."""

    def run(self, case: Case) -> dict[str, Tensor]:
        """`refR_{pixel,xyz,input}`, `stroke_rT`, `resize_content_RATIO`."""
        given = {name: value.numpy() for name, value in case.inputs.items()}
        stated = case.meta["config"]
        colors = _stroke_colors(case)
        out: dict[str, Any] = {}
        for name in case.outputs:
            if found := re.fullmatch(r"ref(\d)_pixel", name):
                frames = training_frames(
                    given["views"],
                    given["xyz_views"],
                    int(found[1]),
                    order=stated["camera_views"],
                    ratio=float(stated["resize_rate"]),
                    background=float(stated["background"]),
                )
                out[name] = frames.pixels
                out[f"ref{found[1]}_xyz"] = frames.ccms
                out[f"ref{found[1]}_input"] = frames.condition
            elif found := re.fullmatch(r"stroke_r(\d)", name):
                thickness = int(found[1])
                out[name] = add_stroke(given["stroke_src"], colors[thickness], thickness)
            elif found := re.fullmatch(r"resize_content_([\d.]+)", name):
                out[name] = resize_content(given["stroke_src"], float(found[1]))
        return {name: torch.from_numpy(value.copy()) for name, value in out.items()}


def _stroke_colors(case: Case) -> dict[int, tuple[int, ...]]:
    """Thickness -> colour, from the notes: `(r,g,b) radius t`."""
    found = re.findall(r"\((\d+),\s*(\d+),\s*(\d+)\) radius (\d)", str(case.meta["notes"]))
    return {int(t): (int(r), int(g), int(b)) for r, g, b, t in found}


@adapter("ortho_cameras")
class OrthoCameras(Adapter):
    """Poses of the six views and camera vectors of whole rigs."""

    def run(self, case: Case) -> dict[str, Tensor]:
        """`indexV`, `stageS_camera`, `orbitN_elevE_startA_extra`."""
        out = {
            "stage1_camera": frame_cameras(FrameRigConfig(reference=True)),
            "stage2_camera": frame_cameras(FrameRigConfig()),
        }
        for name in case.outputs:
            if found := re.fullmatch(r"index(\d)", name):
                out[name] = ortho_pose(int(found[1]))
            elif found := re.fullmatch(r"orbit(\d+)_elev(-?\d+)_start(-?\d+)(_extra)?", name):
                rig = FrameRigConfig(
                    kind="orbit",
                    orbit_views=int(found[1]),
                    elevation_deg=float(found[2]),
                    azimuth_deg=float(found[3]),
                    reference=bool(found[4]),
                )
                out[name] = frame_cameras(rig)
        return out


@adapter("ccm_views")
class CcmViews(Adapter):
    """Triplane blocks of pictures and coordinate maps; the maps' axes are checked on the way."""

    def run(self, case: Case) -> dict[str, Tensor]:
        """`tri_*`; `tri_rgb_scaleSSS_cCC` shrinks by S.SS over a background of C.C."""
        ccm, rgb = case.inputs["ccm"], case.inputs["rgb"]
        _check_axes(ccm, case.inputs["mask"] > 0)
        blocks = crm_input.plane_blocks(ccm.flip(-3))
        out = {
            "tri_rgb": crm_input.plane_blocks(rgb),
            "tri_ccm_unfixed": blocks,
            "tri_ccm_fixed": crm_input.network_input(rgb, ccm)[6:],
        }
        for name in case.outputs:
            if found := re.fullmatch(r"tri_rgb_scale0(\d+)_c0(\d+)", name):
                ratio, fill = (float(f"0.{digits}") for digits in found.groups())
                out[name] = crm_input.plane_blocks(crm_input.shrink_content(rgb, ratio, fill))
        return out


def _check_axes(ccm: Tensor, mask: Tensor) -> None:
    """Every covered pixel of the maps must say what `ortho_views.AXES` says of its place."""
    for view, axes in enumerate(AXES):
        position = (ccm[view] * 2.0 - 1.0).permute(1, 2, 0)
        wrong = (position - plane_coordinates(view, ccm.shape[-1])).abs()[mask[view]]
        for axis, _ in (axes.right, axes.down):
            error = float(wrong[:, axis].max())
            if error > 1e-5:
                raise GoldenError(f"view {view}, axis {axis}: off by {error:.3g}")


@adapter("crm_input_assembly")
class CrmInputAssembly(Adapter):
    """Twelve channels of strips that a formula in the configuration paints."""

    def run(self, case: Case) -> dict[str, Tensor]:
        """`x12_sK`: every K-th pixel, from the offsets in the notes; `x12_sum`; `noisy_sK`."""
        stated = case.meta["config"]
        sides = _sides(stated["rgb_formula"])
        rgb, ccm = (_painted(stated[f"{name}_formula"], sides) for name in ("rgb", "ccm"))
        values = [crm_input.strip_views(strip)[None] for strip in (rgb, ccm)]
        clean = crm_input.network_input(*values)
        out = {
            "x12_sum": clean.double().sum((0, 2, 3)),
            "timestep": torch.tensor([PUBLISHED.timestep]),
        }
        rows, start, columns = _offsets(case)
        few = clean[:, :, ::rows, start::columns]
        for name in case.outputs:
            if found := re.fullmatch(r"(x12|noisy)_(s\d+)", name):
                noised = found[1] == "noisy"
                noise = case.inputs[f"noise_{found[2]}"] if noised else None
                out[name] = few if noise is None else _noised(few, noise)
        return out


def _noised(few: Tensor, noise: Tensor) -> Tensor:
    """The stored draw has its scale and shift already."""
    standard = (noise - PUBLISHED.noise_mean) / PUBLISHED.noise_std
    return InputNoise(PUBLISHED).add(few, standard)


def _offsets(case: Case) -> tuple[int, int, int]:
    found = re.search(r"x12\[:,:,::(\d+),(\d+)::(\d+)\]", str(case.meta["notes"]))
    if found is None:
        raise GoldenError("the notes do not say which pixels are stored")
    return int(found[1]), int(found[2]), int(found[3])


_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def _sides(formula: str) -> dict[str, int]:
    """Bounds `i<256, j<1536, c<3`."""
    return {name: int(bound) for name, bound in re.findall(r"\b([ijc])<(\d+)", formula)}


def _painted(formula: str, sides: Mapping[str, int]) -> Tensor:
    """uint8 [I, J, C] of `uint8 EXPRESSION in i, j, c`, products and sums of whole numbers."""
    text = formula.removeprefix("uint8").partition(" for ")[0]
    i, j, c = torch.meshgrid(*(torch.arange(sides[n]) for n in "ijc"), indexing="ij")
    names = {"i": i, "j": j, "c": c}

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.BinOp):
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Name):
            return names[node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        raise GoldenError(f"not a formula: {formula}")

    return value(ast.parse(text.strip(), mode="eval").body).to(torch.uint8)
