"""Write `lock.txt` and `dev.txt`: exact versions of everything the project needs, as installed
right now.

`lock.txt` pins the closure of the run-time dependencies of pyproject.toml, `dev.txt` adds that of
the `dev` extra. Local version parts (`+cpu`) are dropped, so that the same file serves CPU and CUDA
builds; packages that only a CUDA build of torch requires are resolved by pip on the machine that
has one.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
FIRST = "torch"  # installed before its dependants, so that they do not pull another build


def closure(roots: list[str]) -> dict[str, str]:
    """Canonical name -> version of all roots and what they require on this platform, from the
    environment.
    """
    pins: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    queue = [
        (Requirement(root), extra) for root in roots for extra in ("", *Requirement(root).extras)
    ]
    while queue:
        requirement, extra = queue.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{name} is required but not installed: install it, then lock again")
        pins[name] = found.version.partition("+")[0]
        for line in found.requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                queue += [(needed, e) for e in ("", *needed.extras)]
    return pins


def main() -> None:
    """Write both files beside this script."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    runtime = closure(project["dependencies"])
    names = sorted(runtime, key=lambda n: (n != FIRST, n))
    (HERE / "lock.txt").write_text(
        "# Run-time dependencies, exact. Written by `make lock`.\n"
        + "".join(f"{n}=={runtime[n]}\n" for n in names)
    )
    dev = closure(project["dependencies"] + project["optional-dependencies"]["dev"])
    (HERE / "dev.txt").write_text(
        "# What tests and checks need besides the run-time dependencies. Written by `make lock`.\n"
        "-r lock.txt\n" + "".join(f"{n}=={dev[n]}\n" for n in sorted(set(dev) - set(runtime)))
    )


if __name__ == "__main__":
    main()
