"""Shell patterns over keys with `/`: what `glob` is for folders, for listings of a bucket."""

from __future__ import annotations

import re
from functools import lru_cache

MARKS = "*?["


def is_pattern(text: str) -> bool:
    """Whether a text has wildcards."""
    return any(mark in text for mark in MARKS)


def fixed_part(pattern: str) -> str:
    """The folder above the first wildcard, without a final slash; "" when there is none."""
    first = min(pattern.find(mark) for mark in MARKS if mark in pattern)
    return pattern[:first].rpartition("/")[0]


def matches(key: str, pattern: str) -> bool:
    """Whether a key fits: `*` and `?` stay within a folder, `**` crosses them; names that start
    with a dot only fit a pattern that names the dot.
    """
    return _compiled(pattern).fullmatch(key) is not None


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = pattern.split("/")
    text = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            text += r"(?:(?!\.)[^/]+/)*" + (r"(?!\.)[^/]+" if last else "")
        else:
            text += _part(part) + ("" if last else "/")
    return re.compile(text, re.DOTALL)


def _part(part: str) -> str:
    text = r"(?!\.)" if part[:1] in ("*", "?", "[") else ""
    position = 0
    while position < len(part):
        mark = part[position]
        end = part.find("]", position + 2) if mark == "[" else -1
        if mark == "*":
            text += "[^/]*"
        elif mark == "?":
            text += "[^/]"
        elif end > 0:
            inside = part[position + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            inside = f"^/{inside[1:]}" if inside[0] == "!" else inside.replace("^", r"\^")
            text += f"[{inside}]"
            position = end
        else:
            text += re.escape(mark)
        position += 1
    return text
