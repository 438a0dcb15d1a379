"""Zero123++ views -> InstantMesh triplane -> FlexiCubes -> coloured mesh: the teacher chain.

Follows InstantMesh (Xu et al. 2024) at any size; with the one-step sampler and distilled weights
the same chain is GECO (arXiv 2405.20327), with an InstantNeRF reconstructor it ends in marching
cubes. On a CPU every item runs through the networks
alone, because batched CPU kernels differ in the last bit with the batch size and the same item must
give the same bytes in any batch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geco_core.cameras import encoder_cameras, rig_poses
from geco_core.config import load as config_load
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import BadItem, Fatal, ForgeError, Reason
from geco_core.fields.color import TriplaneColor
from geco_core.imaging.decode import DecodeLimits, decode_image
from geco_core.imaging.framing import composite, condition_pixels, resize_foreground
from geco_core.imaging.matting import foreground_rgba
from geco_core.imaging.views import resize_views
from geco_core.mesh.frames import world_to_gltf
from geco_core.multiview.generate import generate_views
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.instantnerf import InstantNeRF
from geco_core.systems.chain import load_chain
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
        self._multiview = multiview.eval().to(device)
        self._reconstructor = reconstructor.eval().to(device)
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
        vae_B3SS, clip_B3PP = condition_pixels(
            [self._condition_rgb(c) for c in conditions], self.config.multiview
        )
        with self._autocast():
            views = self._per_item(
                lambda i: generate_views(
                    self._multiview, (vae_B3SS[i], clip_B3PP[i]), seeds[i], self.config.sampler
                ),
                len(conditions),
            )
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
        with self._autocast():
            planes = self._per_item(
                lambda i: self._reconstructor.forward_planes(images[i], cameras[i]), len(images)
            )
        self._synchronize()
        self._timing["reconstruct"] = time.perf_counter() - started
        started = time.perf_counter()
        results = [
            self._extract(planes_13CHW) for planes_13CHW in torch.cat(planes).float().split(1)
        ]
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

    def _per_item(self, call: Any, count: int) -> list[Tensor]:
        if self._device.type == "cpu":
            return [call(slice(i, i + 1)) for i in range(count)]
        return [call(slice(0, count))]

    def _extract(self, planes_13CHW: Tensor) -> Generated:
        model = self._reconstructor
        if isinstance(model, InstantNeRF):
            (surface,) = model.extract(planes_13CHW)
        else:
            (surface,) = model.extract(planes_13CHW, self.config.extraction)
        if isinstance(surface, BadItem):
            return surface
        head = model.decoder.net_rgb if isinstance(model, InstantMesh) else None
        return Mesh(
            vertices=world_to_gltf(surface.vertices.float().cpu().numpy()).astype(np.float32),
            faces=surface.faces.cpu().numpy().astype(np.int32),
            colors=surface.vertex_rgb.clamp(0, 1).mul(255).to(torch.uint8).cpu().numpy(),
            color_fn=None if head is None else TriplaneColor.of(planes_13CHW, head),
        )

    def _autocast(self) -> torch.autocast:
        """The configured precision, for the networks alone: extraction stays in float32."""
        dtype = precision(self.config.dtype, self._device)
        return torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


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
    chain = load_chain(config, precision(config.dtype, device))
    return InstantMeshSystem(
        config, chain.multiview, chain.reconstructor, chain.digest, device, chain.licences
    )


def precision(name: str, device: torch.device) -> torch.dtype:
    """The configured precision; "auto" is float16 on a GPU, as published, and float32 elsewhere."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return getattr(torch, name)


def device_named(name: str) -> torch.device:
    """The configured device. Raises `Fatal` for a GPU that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise Fatal(
            f"device {name} is configured but no GPU is visible",
            stage="load",
            remedy="set model.device=cpu",
        )
    return torch.device(name)
