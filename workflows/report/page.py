"""From the collected data to one self-contained HTML page.

Nothing on the page comes from elsewhere: style, scripts, pictures and meshes are inlined, and a
content security policy refuses any request but `data:` and `blob:`. Scripts are admitted by their
hash alone, so a text that escaped the template's escaping could still not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_HERE = Path(__file__).parent
TEMPLATES = _HERE / "templates"
VIEWER = _HERE / "vendor" / "model-viewer.min.js"


def render_page(context: Mapping[str, Any]) -> str:
    """The page of a run. Every value of `context` is escaped.

    Args:
        context: the names that `templates/report.html` reads.
    """
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return render_template(
        TEMPLATES / "report.html",
        context,
        styles=[TEMPLATES / "page.css", TEMPLATES / "report.css"],
        scripts={"viewer": _viewer_script(), "script": script},
    )


def render_template(
    template: Path,
    context: Mapping[str, Any],
    *,
    styles: Sequence[Path],
    scripts: Mapping[str, str],
) -> str:
    """A page that extends `templates/page.html`. Every value of `context` is escaped.

    Args:
        template: file of the page.
        context: the names it reads.
        styles: files that make up its style, in order.
        scripts: name in the template -> text, each inlined and admitted by the page's policy.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "percent": percent, "count": count}
    style = "\n".join(path.read_text(encoding="utf-8") for path in styles)
    return environment.get_template(template.name).render(
        **context,
        policy=content_security_policy(*scripts.values()),
        style=Markup(style),  # noqa: S704 - our own files
        **{name: Markup(text) for name, text in scripts.items()},  # noqa: S704 - our own files
    )


def content_security_policy(*scripts: str) -> str:
    """A policy without a network that runs exactly the given inline scripts.

    Inline styles are admitted: the viewer's shadow DOM carries its own. WebAssembly is, too: the
    viewer compiles a mesh decoder on loading.
    """
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {hashes} 'wasm-unsafe-eval'",
            "style-src 'unsafe-inline'",
            "img-src data: blob:",
            "connect-src data: blob:",
            "worker-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def duration(seconds: float) -> str:
    """`0.42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def percent(share: float) -> str:
    """`12.5%`; shares that are neither none nor all never round to 0% or 100%."""
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    return f"{share * 100:.1f}".removesuffix(".0") + "%"


def count(number: float) -> str:
    """Thousands separated: `12,500`."""
    return f"{number:,.0f}"


@cache
def _viewer_script() -> str:
    text = VIEWER.read_text(encoding="utf-8")
    if "</script" in text.lower():
        raise ValueError(f"{VIEWER.name} can not be inlined: it holds a closing script tag")
    # Without the comment, developer tools would look for the map next to the page.
    return text.partition("//# sourceMappingURL=")[0]


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
