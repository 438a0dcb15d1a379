"""Adapters, one module per family of golden cases; importing this package registers them all."""

from __future__ import annotations

from pathlib import Path

from tests.golden.registry import load_adapters

load_adapters(Path(__file__).parent, __name__)
