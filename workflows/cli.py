"""`geco`: one program, one verb per job. Running the same command again resumes.

Exit codes: 0 every item is terminal and failures are within the limit; 1 they are not; 2 usage,
configuration or manifest refused before any work; 3 the run had to stop; 130 interrupted, 143
terminated. `verify` and `doctor` return 1 when they found something.
"""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence

from geco_core.errors import ConfigError, ForgeError, ManifestError
from infra.environment import code_version
from infra.telemetry import configure_logging
from workflows.cli_arguments import PROGRAM, Formatter, add_verbs
from workflows.cli_verbs import OK, OVER_LIMIT

RESUMABLE = ("generate", "targets", "distill", "train", "retry")
REFUSED, STOPPED, INTERRUPTED, TERMINATED = 2, 3, 130, 143
__all__ = ["INTERRUPTED", "OK", "OVER_LIMIT", "REFUSED", "STOPPED", "TERMINATED", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Console entry point; returns the exit code."""
    parser = build_parser()
    arguments = sys.argv[1:] if argv is None else list(argv)
    _suggest_verb(parser, arguments)
    options, extra = parser.parse_known_args(arguments)
    words = [*extra, *getattr(options, "overrides", ())]
    strays = [word for word in words if "=" not in word or word.startswith("-")]
    if strays or (extra and not hasattr(options, "overrides")):
        parser.error(
            f"unrecognized argument {(strays or extra)[0]!r}; see `geco {options.verb} --help`"
        )
    if extra:  # argparse stops collecting key=value words at the first flag after them
        options.overrides = [*options.overrides, *extra]
    configure_logging(options.log_format, debug=options.debug)
    code = _guarded(options.run, options)
    if code in {INTERRUPTED, TERMINATED} and options.verb in RESUMABLE:
        sys.stderr.write(f"resume with: {PROGRAM} {shlex.join(arguments)}\n")
    return code


def build_parser() -> argparse.ArgumentParser:
    """The parser with every verb."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [--help] [--version] VERB ...",
        description="A manifest of images goes in, a Parquet dataset of meshes comes out.",
        epilog="example: geco generate --manifest photos/ --out runs/photos",
        formatter_class=Formatter,
        add_help=False,
    )
    # Both stand in the usage line: with a section of their own the verbs do not fit one screen.
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    parser.add_argument(
        "--version",
        action="version",
        version=f"geco-forge {code_version()}",
        help=argparse.SUPPRESS,
    )
    add_verbs(parser.add_subparsers(dest="verb", required=True, metavar="VERB"))
    return parser


def _guarded(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    try:
        return run(options)
    except ForgeError as error:
        where = f" [{error.stage}]" if error.stage else ""
        _tell(f"error{where}: {error.message}", error.remedy, debug=options.debug)
        return REFUSED if isinstance(error, (ConfigError, ManifestError)) else STOPPED
    except KeyboardInterrupt as error:
        sys.stderr.write("interrupted; what is committed stays, the same command resumes\n")
        return TERMINATED if getattr(error, "signum", 0) == TERMINATED - 128 else INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left: `geco verify RUN | head`
        sys.stderr.close()
        return STOPPED
    except Exception as error:  # noqa: BLE001 - the process border: no traceback unless asked for
        remedy = "" if options.debug else "add --debug to see where"
        _tell(f"error: {type(error).__name__}: {error}", remedy, debug=options.debug)
        return STOPPED


def _tell(text: str, remedy: str, *, debug: bool) -> None:
    """Write the error being handled to stderr."""
    if debug:
        sys.stderr.write(traceback.format_exc())
    message = f"{text}\n" + (f"remedy: {remedy}\n" if remedy else "")
    # Names of files and columns may hold anything; a terminal acts on control characters.
    sys.stderr.write("".join(c if c.isprintable() or c == "\n" else "?" for c in message))


def _suggest_verb(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    verbs = next(list(a.choices) for a in parser._actions if a.choices)  # noqa: SLF001 - no other way
    if arguments and not arguments[0].startswith("-") and arguments[0] not in verbs:
        near = difflib.get_close_matches(arguments[0], verbs, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"verbs: {', '.join(verbs)}"
        parser.error(f"there is no verb {arguments[0]!r}; {hint}")


if __name__ == "__main__":
    sys.exit(main())
