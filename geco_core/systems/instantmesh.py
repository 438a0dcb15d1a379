"""Zero123++ views -> InstantMesh triplane -> FlexiCubes -> coloured mesh: the teacher chain.

Follows InstantMesh (Xu et al. 2024) at any size; with the one-step sampler and distilled weights
the same chain is GECO (arXiv 2405.20327), with an InstantNeRF reconstructor it ends in marching
cubes. On a CPU every item runs through the networks
alone, because batched CPU kernels differ in the last bit with the batch size and the same item must
give the same bytes in any batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geco_core.cameras import encoder_cameras, rig_poses
from geco_core.config import load as config_load
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import BadItem, ForgeError, Reason
from geco_core.fields.color import DeviceTriplaneColor
from geco_core.imaging.decode import DecodeLimits, decode_image
from geco_core.imaging.framing import composite, condition_pixels, resize_foreground
from geco_core.imaging.matting import foreground_rgba
from geco_core.imaging.views import resize_views
from geco_core.mesh.frames import world_to_gltf
from geco_core.multiview.generate import sample_latents
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.geometry import SurfaceMesh
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.instantnerf import InstantNeRF
from geco_core.systems.chain import load_chain
from geco_core.systems.device import check_device, device_named, place, precision, tf32
from geco_core.systems.host_copies import HostCopies
from geco_core.systems.student import StudentViews, decode_each
from geco_core.types import Condition, Generated, Item, Mesh, MultiView


class InstantMeshSystem:
    """`System` and `Teacher` of the InstantMesh chain.

    Args:
        config: models, sampler, extraction and weights.
        multiview: the view diffusion model, loaded.
        reconstructor: the reconstructor, loaded.
        weights_digest: recorded in every row.
        device: where the networks are.
        licences: of the weights; the configured one when None.
    """

    def __init__(
        self,
        config: InstantMeshConfig,
        multiview: Zero123Plus,
        reconstructor: InstantMesh | InstantNeRF,
        weights_digest: str,
        device: torch.device,
        licences: Sequence[str] | None = None,
    ) -> None:
        self.name = config.system
        self.preset = config.preset
        self.batch_size = config.batch_size
        self.config = config
        place(config, device, multiview, reconstructor)
        self._multiview = multiview
        self._reconstructor = reconstructor
        self._student = StudentViews(multiview, config.sampler, config.reference_cache)
        self._weights_digest = weights_digest
        self._licences = list(licences or [config.weights.licence])
        self._device = device
        rig = config.multiview.rig
        self._cameras_V16 = encoder_cameras(rig_poses(rig), rig.fov_deg)
        self._timing: dict[str, float] = {}

    def prepare(self, item: Item) -> Condition:
        """Decode, cut out and frame the item's image. Raises `BadItem`."""
        if item.image is None:
            raise BadItem(
                "the row has no image",
                reason=Reason.MISSING_INPUT,
                remedy="give the manifest an image column",
                item_id=item.item_id,
                stage="prepare",
            )
        if not isinstance(item.image, bytes):
            raise TypeError("prepare needs image bytes; the engine's fetch stage reads URIs")
        decoded = decode_image(item.image, item_id=item.item_id, limits=DecodeLimits())
        rgba, notes = foreground_rgba(decoded, item_id=item.item_id)
        framed = resize_foreground(rgba, self.config.multiview.foreground_ratio)
        return Condition(
            item_id=item.item_id,
            rgba=framed,
            source_sha256=decoded.sha256,
            notes=(*decoded.notes, *notes),
        )

    @torch.inference_mode()
    def multiview(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> MultiView:
        """Six views per condition; item i depends on (conditions[i], seeds[i]) alone."""
        images = [self._condition_rgb(c) for c in conditions]
        with self._precision():
            views = self._per_item(lambda i: self._views(images[i], seeds[i]), len(images))
        cameras = self._cameras_V16.to(self._device).expand(len(conditions), -1, -1)
        return MultiView(torch.cat(views), cameras)

    @torch.inference_mode()
    def reconstruct(self, views: MultiView) -> list[Generated]:
        """One mesh (glTF frame, vertex colours) per row of `views`.

        An empty surface becomes a `BadItem`.
        """
        started = time.perf_counter()
        images = resize_views(views.images.to(self._device), self.config.reconstructor.input_size)
        cameras = views.cameras.to(self._device)
        with self._precision():
            planes = self._per_item(
                lambda i: self._reconstructor.forward_planes(images[i], cameras[i]), len(images)
            )
        planes_B3CHW = torch.cat(planes).float()
        self._synchronize()
        self._timing["reconstruct"] = time.perf_counter() - started
        started = time.perf_counter()
        with tf32(allowed=False):
            results = self._meshes(planes_B3CHW)
        self._timing["extract"] = time.perf_counter() - started
        return results

    def generate(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Generated]:
        """Conditions in, meshes out, in order; a bad member's slot holds its `BadItem`."""
        self._timing = {}
        if not conditions:
            return []
        started = time.perf_counter()
        views = self.multiview(conditions, seeds)
        self._synchronize()
        self._timing["multiview"] = time.perf_counter() - started
        results = self.reconstruct(views)
        for condition, result in zip(conditions, results, strict=True):
            if isinstance(result, ForgeError):
                result.item_id = condition.item_id
        return results

    def provenance(self) -> Mapping[str, Any]:
        """Digests and licences recorded in every row and file."""
        return {
            "weights_digest": self._weights_digest,
            "config_digest": config_load.fingerprint(self.config),
            "licences": list(self._licences),
        }

    @property
    def models(self) -> tuple[Zero123Plus, InstantMesh | InstantNeRF]:
        """The multi-view model and the reconstructor, for evaluation."""
        return self._multiview, self._reconstructor

    @property
    def rig_cameras(self) -> Tensor:
        """Encoder cameras of the rig, float [V, 16]."""
        return self._cameras_V16

    def timing(self) -> Mapping[str, float]:
        """Seconds of the last `generate` call: multiview, reconstruct, extract."""
        return dict(self._timing)

    def _condition_rgb(self, condition: Condition) -> np.ndarray:
        if condition.rgba is None:
            raise BadItem(
                "this system reads images, not prompts",
                reason=Reason.UNSUPPORTED_INPUT,
                remedy="give the manifest an image column",
                item_id=condition.item_id,
                stage="multiview",
            )
        return composite(condition.rgba, self.config.multiview.background)

    def _views(self, images: Sequence[np.ndarray], seeds: Sequence[int]) -> Tensor:
        """Views [B, V, 3, view, view] of composited images."""
        if self.config.sampler.kind == "one_step":
            return self._student(images, seeds)
        pixels = condition_pixels(images, self.config.multiview)
        latents = sample_latents(self._multiview, pixels, seeds, self.config.sampler)
        return decode_each(self._multiview, latents)

    def _per_item(self, call: Callable[[slice], Tensor], count: int) -> list[Tensor]:
        if self._device.type == "cpu":
            return [call(slice(i, i + 1)) for i in range(count)]
        return [call(slice(0, count))]

    def _meshes(self, planes_B3CHW: Tensor) -> list[Generated]:
        copies = HostCopies(self._device)
        found = [
            self._sent(surface, planes_13CHW, copies)
            for surface, planes_13CHW in zip(
                self._surfaces(planes_B3CHW), planes_B3CHW.split(1), strict=True
            )
        ]
        copies.wait()
        return [s.mesh() if isinstance(s, _OnItsWay) else s for s in found]

    def _surfaces(self, planes_B3CHW: Tensor) -> Iterator[SurfaceMesh | BadItem]:
        """One result per object, each when it is made."""
        if isinstance(self._reconstructor, InstantMesh):
            return self._reconstructor.extract_each(planes_B3CHW, self.config.extraction)
        nerf = self._reconstructor
        return (surface for planes in planes_B3CHW.split(1) for surface in nerf.extract(planes))

    def _sent(
        self, surface: SurfaceMesh | BadItem, planes_13CHW: Tensor, copies: HostCopies
    ) -> _OnItsWay | BadItem:
        """The surface on its way to the host."""
        if isinstance(surface, BadItem):
            return surface
        model = self._reconstructor
        head = model.decoder.net_rgb if isinstance(model, InstantMesh) else None
        color_fn = None if head is None else DeviceTriplaneColor(planes_13CHW, head)
        return _OnItsWay.of(surface, copies, color_fn)

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """The configured precision, for the networks alone: extraction stays in float32."""
        dtype = precision(self.config.dtype, self._device)
        autocast = torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)
        with autocast, tf32(allowed=self.config.tf32):
            yield

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


@dataclass(frozen=True)
class _OnItsWay:
    """A surface whose copy to the host may not be complete yet."""

    vertices: Tensor  # float32 [N, 3], world
    faces: Tensor  # int32 [F, 3]
    colors: Tensor  # uint8 [N, 3]
    color_fn: DeviceTriplaneColor | None

    @classmethod
    def of(
        cls, surface: SurfaceMesh, copies: HostCopies, color_fn: DeviceTriplaneColor | None
    ) -> _OnItsWay:
        return cls(
            copies.copy(surface.vertices.float()),
            copies.copy(surface.faces.to(torch.int32)),
            copies.copy(surface.vertex_rgb.clamp(0, 1).mul(255).to(torch.uint8)),
            color_fn,
        )

    def mesh(self) -> Mesh:
        return Mesh(
            vertices=world_to_gltf(self.vertices.numpy()).astype(np.float32),
            faces=self.faces.numpy(),
            colors=self.colors.numpy(),
            color_fn=self.color_fn,
        )


def build_instantmesh(preset: str, overrides: Sequence[str] = ()) -> InstantMeshSystem:
    """Build the system from its preset and `key.sub=value` overrides, weights loaded.

    Raises:
        ConfigError: unknown preset or key.
        Fatal: weights missing, of another digest or shape, or a device that is not there.
    """
    return build_chain("instantmesh", preset, overrides)


def build_chain(name: str, preset: str, overrides: Sequence[str]) -> InstantMeshSystem:
    """Build a system of this family by its name; see `build_instantmesh`."""
    config = config_load.load(InstantMeshConfig, config_load.preset_path(name, preset), overrides)
    device = device_named(config.device)
    check_device(config, device)
    chain = load_chain(config, precision(config.dtype, device))
    return InstantMeshSystem(
        config, chain.multiview, chain.reconstructor, chain.digest, device, chain.licences
    )
