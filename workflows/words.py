"""Small words of the console: numbers with their nouns."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 shard`, `3 shards`, `12,500 items`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
