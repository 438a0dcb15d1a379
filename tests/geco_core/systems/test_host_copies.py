"""Copies to the host: nothing happens on a CPU; on a GPU they are right once waited for."""

from __future__ import annotations

import pytest
import torch

from geco_core.systems.host_copies import HostCopies


def test_a_cpu_copies_nothing() -> None:
    copies = HostCopies(torch.device("cpu"))
    source = torch.arange(3)
    assert copies.copy(source) is source
    copies.wait()


@pytest.mark.gpu
def test_copies_hold_the_values_the_source_had() -> None:
    device = torch.device("cuda")
    copies = HostCopies(device)
    made = []
    for step in range(8):
        source = torch.full((1 << 20,), float(step), device=device)
        made.append(copies.copy(source))
        del source  # its memory is free to be written over by the next step
    copies.wait()
    assert all(host.is_pinned() for host in made)
    assert all(bool((host == step).all()) for step, host in enumerate(made))
