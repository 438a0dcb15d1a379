"""`python -m tests.golden FILE_OR_FOLDER... [--strict]`: replay golden cases on our code.

Prints a row per output (file, output, largest absolute error, tolerance as rtol+atol, verdict),
then `N passed, M failed`. Exit status 1 on any failure. A case no adapter claims is listed; under
--strict it fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

import tests.golden.adapters  # noqa: F401  (registers the adapters)
from tests.golden.registry import GoldenError, Row, case_paths, evaluate


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases named on the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden", description="Replay golden cases on our code."
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    parser.add_argument("--strict", action="store_true", help="a case without adapter is a failure")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        cases = case_paths(options.paths)
    except GoldenError as error:
        parser.error(str(error))
    passed = failed = 0
    for row in _verdicts(cases, strict=options.strict):
        passed += row.ok
        failed += not row.ok
        _show(row)
    if not cases and options.strict:
        _show(Row("-", "*", float("inf"), "-", ok=False, note="no golden cases found"))
        failed += 1
    sys.stdout.write(f"{passed} passed, {failed} failed\n")
    return 1 if failed else 0


def _verdicts(cases: Sequence[Path], *, strict: bool) -> Iterator[Row]:
    for path in cases:
        rows = evaluate(path)
        if rows is not None:
            yield from rows
        elif strict:
            yield Row(path.stem, "*", float("inf"), "-", ok=False, note="no adapter")
        else:
            sys.stdout.write(f"{path.stem:28} no adapter\n")


def _show(row: Row) -> None:
    verdict = "ok" if row.ok else "FAILED"
    line = f"{row.case:28} {row.output:56} {row.error:10.3e} {row.tolerance:>12} {verdict}"
    sys.stdout.write(f"{line} {row.note}".rstrip() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
