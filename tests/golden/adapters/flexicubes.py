"""FlexiCubes cases: meshes of both modes and both face orders, and gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from geco_core.surface.cells import corner_cases, resolve_ambiguity, select_cells
from geco_core.surface.flexicubes import flexicubes
from geco_core.surface.grid import RegularGrid
from geco_core.surface.quads import FaceOrder
from tests.golden.registry import Adapter, Case, adapter

_ORDERS: tuple[tuple[FaceOrder, str], ...] = (("instantmesh", ""), ("upstream", "_upstream"))
_WEIGHTS = ("beta", "alpha", "gamma")
_DEVIATION_WEIGHT = 3.0
_UNIT_ATOL = 2e-6
_RANDOM_ATOL = 2e-5
_GRADIENT_TOLERANCE = 1e-3


@adapter("flexicubes")
class FlexiCubesAdapter(Adapter):
    """Runs every variant on the stored cubes; the arithmetic grid must select the same."""

    def run(self, case: Case) -> dict[str, Tensor]:
        """Every stored output.

        `{unit,rand}_{eval,train}_{verts,faces,Ldev}[_upstream]`, `grad_*`, `surf_cubes` and
        `case_ids`.
        """
        inputs = case.inputs
        res = tuple(int(r) for r in inputs["res"])
        grid = RegularGrid((res[0], res[1], res[2]))
        cells = select_cells(inputs["s"], grid, grid.res)
        mask_C = torch.zeros(grid.num_cubes, dtype=torch.bool)
        mask_C[cells.cubes] = True
        outputs = {
            "grid_verts_undeformed": grid.points(),
            "surf_cubes": mask_C,
            "case_ids": resolve_ambiguity(corner_cases(inputs["s"], cells), cells),
        }
        outputs.update(self._meshes(case, grid))
        outputs.update(self._gradients(case, grid))
        return outputs

    def tolerance(self, case: Case, output: str) -> tuple[float, float]:
        """Faces exact; 2e-6 absolute without weights, 2e-5 with.

        Gradients 1e-3 of the value and of the largest.
        """
        stored = case.outputs[output]
        if not stored.is_floating_point():
            return 0.0, 0.0
        if output.startswith("grad_"):
            return _GRADIENT_TOLERANCE, _GRADIENT_TOLERANCE * float(stored.abs().max())
        random = output.startswith("rand_") or "Ldev" in output
        return 0.0, _RANDOM_ATOL if random else _UNIT_ATOL

    def _meshes(self, case: Case, grid: RegularGrid) -> dict[str, Tensor]:
        inputs, scale = case.inputs, float(case.meta["weight_scale"])
        outputs = {}
        for kind in ("unit", "rand"):
            beta, alpha, gamma = (inputs[n] if kind == "rand" else None for n in _WEIGHTS)
            for mode in ("eval", "train"):
                for order, suffix in _ORDERS:
                    verts, faces, deviation = flexicubes(
                        inputs["x"],
                        inputs["s"],
                        inputs["cubes"],
                        grid.res,
                        beta=beta,
                        alpha=alpha,
                        gamma=gamma,
                        weight_scale=scale,
                        training=mode == "train",
                        order=order,
                        zeros_outside=False,
                    )
                    outputs[f"{kind}_{mode}_verts{suffix}"] = verts
                    outputs[f"{kind}_{mode}_faces{suffix}"] = faces
                    outputs[f"{kind}_{mode}_Ldev{suffix}"] = deviation
        return outputs

    def _gradients(self, case: Case, grid: RegularGrid) -> dict[str, Tensor]:
        """Gradients of sum(vertices * stored weights) + 3 mean(deviation).

        In training mode, through the grid path.
        """
        inputs = case.inputs
        leaves = {n: inputs[n].clone().requires_grad_() for n in ("x", "s", *_WEIGHTS)}
        verts, _, deviation = flexicubes(
            leaves["x"],
            leaves["s"],
            grid,
            beta=leaves["beta"],
            alpha=leaves["alpha"],
            gamma=leaves["gamma"],
            weight_scale=float(case.meta["weight_scale"]),
            training=True,
        )
        loss = (verts * inputs["loss_vertex_weights"]).sum() + _DEVIATION_WEIGHT * deviation.mean()
        loss.backward()
        return {f"grad_{name}": leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
