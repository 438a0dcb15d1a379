"""Errors typed by what to do next: retry, end one item, or stop the run.

Every error names the item and the stage it concerns where there is one, and a remedy. `Reason` is
the closed list of reason codes a failed or skipped row may carry; `docs/guide/reasons.md` documents
each of them.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Reason codes of terminal states. Closed: a row never carries anything else."""

    # the manifest row itself
    DUPLICATE_ID = "duplicate_id"
    MALFORMED_ROW = "malformed_row"
    MISSING_INPUT = "missing_input"
    UNSUPPORTED_INPUT = "unsupported_input"
    # fetching the source
    NOT_FOUND = "not_found"
    ACCESS_DENIED = "access_denied"
    URI_REFUSED = "uri_refused"
    TOO_MANY_BYTES = "too_many_bytes"
    FETCH_FAILED = "fetch_failed"
    # decoding and framing the image
    NOT_AN_IMAGE = "not_an_image"
    CORRUPT_IMAGE = "corrupt_image"
    IMAGE_TOO_SMALL = "image_too_small"
    IMAGE_TOO_LARGE = "image_too_large"
    EMPTY_FOREGROUND = "empty_foreground"
    # prompts
    EMPTY_PROMPT = "empty_prompt"
    # the model and what it made
    GENERATION_FAILED = "generation_failed"
    NON_FINITE = "non_finite"
    EMPTY_MESH = "empty_mesh"
    INVALID_MESH = "invalid_mesh"
    FINISHING_FAILED = "finishing_failed"
    # the process under the item
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"


class ForgeError(Exception):
    """Base of every error this project raises on purpose.

    Args:
        message: what is wrong, in one sentence, with the numbers that show it.
        remedy: what the user can do about it.
        item_id: the manifest item concerned, when there is one.
        stage: the stage that noticed (`plan`, `fetch`, `prepare`, `multiview`, `reconstruct`,
            `extract`, `finish`, `commit`, ...), when there is one.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        item_id: str | None = None,
        stage: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.item_id = item_id
        self.stage = stage

    def __str__(self) -> str:
        where = ", ".join(
            f"{label} {value}"
            for label, value in (("item", self.item_id), ("stage", self.stage))
            if value is not None
        )
        text = f"{self.message} [{where}]" if where else self.message
        return f"{text} Remedy: {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[object, ...]:
        # Default pickling, by which errors cross processes, fails on keyword-only constructors.
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))


class BadItem(ForgeError):
    """This item can not be made; record a `failed` row with `reason` and go on with the others."""

    def __init__(
        self,
        message: str,
        *,
        reason: Reason,
        remedy: str = "",
        item_id: str | None = None,
        stage: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, item_id=item_id, stage=stage)
        self.reason = Reason(reason)


class Retryable(ForgeError):
    """A passing fault (store, network, node): try again with backoff, a bounded number of times."""


class Fatal(ForgeError):
    """Nothing more can be done in this run: stop, and print the message and the remedy.

    What is committed stays.
    """


class ConfigError(Fatal):
    """The configuration is wrong: an unknown key, a value of the wrong type or out of range."""


class ManifestError(Fatal):
    """The manifest as a whole is refused before any work starts."""


def _rebuild(kind: type[ForgeError], message: str, state: dict[str, object]) -> ForgeError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error
