"""Copies of results to the host that run while the device goes on working.

On a GPU a copy goes to pinned memory on a stream of its own, ordered after the work that made its
source; nothing waits until `wait`. On a CPU there is nothing to copy.
"""

from __future__ import annotations

import torch
from torch import Tensor


class HostCopies:
    """Copies of one batch.

    Args:
        device: where the sources are.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def copy(self, source: Tensor) -> Tensor:
        """The source's values on the host; on a GPU they are there only after `wait`."""
        if self._stream is None:
            return source
        host = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(source.device))
        with torch.cuda.stream(self._stream):
            host.copy_(source, non_blocking=True)
        # The allocator may not reuse the source's memory before the copy has read it.
        source.record_stream(self._stream)
        return host

    def wait(self) -> None:
        """Return when every copy is complete."""
        if self._stream is not None:
            self._stream.synchronize()
