"""Frozen configuration dataclasses, their loader, and the shipped presets."""
