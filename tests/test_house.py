"""The house rules that a script can check: file sizes, headers, and documents that keep up with the
code.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from pathlib import Path

import pytest

from geco_core.errors import Reason

ROOT = Path(__file__).parent.parent
LIBRARY = ("geco_core", "infra", "actors", "workflows")
SOFT_LINES, HARD_LINES = 300, 500
MAX_FUNCTION_LINES = 40
TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".sh", ".html", ".css", ".cfg", ""}
SKIP = {".git", ".venv", "node_modules", "__pycache__", "vendor", "build", "demo-output", "runs"}
# The repository speaks of the project alone: no private paths, package registries or trackers.
FOREIGN = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<![\w.])/(?:home|root|w[o]rk|Users)/",
        r"pypi\.org",
        r"files\.pythonhosted",
        r"registry\.npmjs",
        r"(?<![\w/])issue #\d",
        r"\b(the|this|our|my|a|next|previous|earlier|another) sessions?\b",
        r"\bsub-?agent",
    )
]


def tracked() -> list[Path]:
    """Text files of the repository: what git knows or would add; without git, everything outside
    SKIP.
    """
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\0")
        paths = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [p for p in ROOT.rglob("*") if not SKIP & set(p.relative_to(ROOT).parts)]
    return [
        p
        for p in paths
        if p.is_file() and p.suffix in TEXT and not SKIP & set(p.relative_to(ROOT).parts)
    ]


def sources(*packages: str) -> list[Path]:
    return sorted(p for package in packages for p in (ROOT / package).rglob("*.py"))


def rel(path: Path) -> str:
    return str(path.relative_to(ROOT))


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][\w-]*):", text, re.MULTILINE))


def documents() -> dict[str, str]:
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {rel(p): p.read_text() for p in paths}


def test_the_repository_speaks_of_the_project_alone() -> None:
    found = [
        f"{rel(path)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if any(pattern.search(line) for pattern in FOREIGN)
    ]
    assert not found, "\n".join(found)


def test_the_foreign_patterns_do_match() -> None:
    samples = ["/home/x/y", "https://pypi.org/simple", "see issue #12", "in the previous session"]
    for sample in samples:
        assert any(p.search(sample) for p in FOREIGN), sample
    assert not any(p.search("boto3.session.Session and upstream ray#61012") for p in FOREIGN)


def test_files_are_short_or_say_why() -> None:
    wrong = []
    for path in sources(*LIBRARY):
        lines = path.read_text().splitlines()
        header = ast.get_docstring(ast.parse("\n".join(lines))) or ""
        if len(lines) > HARD_LINES:
            wrong.append(f"{rel(path)} has {len(lines)} lines, the limit is {HARD_LINES}")
        elif len(lines) > SOFT_LINES and "Length:" not in header:
            wrong.append(
                f"{rel(path)} has {len(lines)} lines and no 'Length:' reason in its header"
            )
    assert not wrong, "\n".join(wrong)


def test_every_library_file_opens_with_what_it_is() -> None:
    wrong = []
    for path in sources(*LIBRARY, "benchmarks"):
        text = path.read_text()
        if not text.strip():
            continue
        if not ast.get_docstring(ast.parse(text)):
            wrong.append(f"{rel(path)} has no header docstring")
        if path.name != "__init__.py" and "from __future__ import annotations" not in text:
            wrong.append(f"{rel(path)} does not import annotations from __future__")
    assert not wrong, "\n".join(wrong)


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the end."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_functions_are_short() -> None:
    wrong = [
        f"{rel(path)}:{node.lineno} {node.name} has {_body_lines(node)} lines"
        for path in sources(*LIBRARY)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and _body_lines(node) > MAX_FUNCTION_LINES
    ]
    assert not wrong, "\n".join(wrong)


def test_every_reason_code_is_documented_and_no_other() -> None:
    text = (ROOT / "docs/guide/reasons.md").read_text()
    documented = re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)
    assert sorted(documented) == sorted(r.value for r in Reason)


@pytest.mark.parametrize("name", list(documents()))
def test_documented_make_targets_exist(name: str) -> None:
    used = set(re.findall(r"(?:^|`|\$ )make ([a-z][\w-]*)", documents()[name], re.MULTILINE))
    assert used <= make_targets(), f"no such target: {used - make_targets()}"


def console_verbs() -> set[str]:
    parser = importlib.import_module("workflows.cli").build_parser()
    actions = [a for a in parser._actions if a.choices is not None and hasattr(a.choices, "keys")]
    return {verb for action in actions for verb in action.choices}


def test_console_verbs_and_documents_agree() -> None:
    verbs = console_verbs()
    assert verbs
    used = {
        verb
        for text in documents().values()
        for verb in re.findall(r"(?:^|`|\$ )geco ([a-z][a-z-]+)", text, re.MULTILINE)
    }
    assert verbs <= used, f"undocumented: {verbs - used}"
    assert used <= verbs, f"documented but missing: {used - verbs}"


@pytest.mark.parametrize("name", list(documents()))
def test_links_between_documents_resolve(name: str) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", documents()[name])
    folder = (ROOT / name).parent
    broken = [t for t in targets if not (folder / t).exists()]
    assert not broken


def test_decision_records_are_numbered_without_gaps() -> None:
    names = sorted(p.name for p in (ROOT / "docs/adr").glob("[0-9]*.md"))
    assert [n[:4] for n in names] == [f"{i:04d}" for i in range(1, len(names) + 1)]
    assert len(names) >= 6


def test_lock_pins_every_dependency_exactly() -> None:
    pins = (ROOT / "requirements/lock.txt").read_text() + (
        ROOT / "requirements/dev.txt"
    ).read_text()
    lines = [x for x in pins.splitlines() if x and not x.startswith(("#", "-r"))]
    loose = [x for x in lines if not re.fullmatch(r"[a-z0-9._-]+==[0-9][\w.]*", x)]
    assert not loose, f"not an exact pin: {loose}"
    assert lines[0].startswith("torch=="), (
        "torch comes first, or a dependant may pull another build"
    )
    project = (ROOT / "pyproject.toml").read_text()
    block = project.split("dependencies = [", 1)[1].split("]", 1)[0]
    direct = [re.split(r"[<>=\[]", d)[0].lower() for d in re.findall(r'"([^"]+)"', block)]
    locked = {line.split("==")[0] for line in lines}
    assert set(direct) <= locked, f"run make lock: {set(direct) - locked}"
