"""From the collected data to one self-contained HTML page, by the rules of `workflows.report`:
everything is inlined, and a content security policy refuses any request.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from workflows.report.page import TEMPLATES as SHARED
from workflows.report.page import content_security_policy, count, duration, percent

TEMPLATES = Path(__file__).parent / "templates"


def render_page(context: Mapping[str, Any]) -> str:
    """The page. Every value of `context` is escaped, but for markup of `charts`.

    Args:
        context: the names that `templates/distill.html` reads.
    """
    script = (TEMPLATES / "distill.js").read_text(encoding="utf-8")
    style = [(SHARED / "report.css"), (TEMPLATES / "distill.css")]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "percent": percent, "count": count}
    return environment.get_template("distill.html").render(
        **context,
        policy=content_security_policy(script),
        style=Markup("\n".join(path.read_text(encoding="utf-8") for path in style)),  # noqa: S704 - our own files
        script=Markup(script),  # noqa: S704 - our own file
    )
