"""Why a checkpoint is refused: a closed list, and the error that carries one of its codes."""

from __future__ import annotations

from enum import StrEnum

from geco_core.errors import Fatal


class Refusal(StrEnum):
    """Codes of `CheckpointError`. Closed."""

    # the file
    NOT_FOUND = "not_found"
    NOT_A_FILE = "not_a_file"
    SYMLINK = "symlink"
    EMPTY = "empty"
    TOO_LARGE = "too_large"
    CHANGED = "changed"
    WRONG_DIGEST = "wrong_digest"
    # its format
    NOT_A_CHECKPOINT = "not_a_checkpoint"
    CORRUPT = "corrupt"
    BAD_HEADER = "bad_header"
    BAD_INDEX = "bad_index"
    BOMB = "bomb"
    # what it holds
    PICKLE_REFUSED = "pickle_refused"
    NO_TENSORS = "no_tensors"
    UNSUPPORTED = "unsupported"
    AMBIGUOUS = "ambiguous"
    # the process that read it, and the place for the result
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    NOT_WRITTEN = "not_written"


class CheckpointError(Fatal):
    """A checkpoint that is not read, with its `Refusal`."""

    def __init__(self, message: str, *, refusal: Refusal, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy, stage="load")
        self.refusal = Refusal(refusal)
