"""The Inception network with weights that any program can make again.

`KNOWN` are features that pytorch-fid 0.3.0 gives over the same weights and images.
"""

from __future__ import annotations

import pytest
import torch

from geco_core.evaluate.inception import FEATURES, FidInception

PLACES = (0, 500, 1000, 1500, 2047)
KNOWN = [343.377, 0.0, 0.0, 10.3682, 570.359]


def with_weights() -> FidInception:
    """Weights and running statistics that are sines of their position."""
    network = FidInception().eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not value.is_floating_point():
                continue
            phase = torch.arange(value.numel(), dtype=torch.float64)
            wave = torch.sin(phase * 0.7 + value.shape[0]).view(value.shape)
            if value.dim() > 1:
                wave = wave * (3.0 / value[0].numel()) ** 0.5
            elif name.endswith(("running_var", "bn.weight")):
                wave = 1.0 + 0.3 * wave
            value.copy_(wave if value.dim() > 1 or "var" in name or "weight" in name else wave / 9)
    return network


def images() -> torch.Tensor:
    place = torch.arange(3 * 40 * 40, dtype=torch.float64).view(1, 3, 40, 40)
    return torch.sin(place * 0.013).abs().float()


def test_it_gives_what_pytorch_fid_gives() -> None:
    with torch.no_grad():
        features = with_weights()(images())
    assert features.shape == (1, FEATURES)
    assert features[0, list(PLACES)].tolist() == pytest.approx(KNOWN, rel=1e-3, abs=1e-5)


def test_names_are_those_of_the_published_file() -> None:
    names = FidInception().state_dict()
    assert names["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert names["Mixed_6b.branch7x7dbl_5.bn.running_var"].shape == (192,)
    assert names["fc.weight"].shape == (1008, FEATURES)
    assert len([name for name in names if name.endswith("conv.weight")]) == 94
