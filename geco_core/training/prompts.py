"""Captions as the token ids that the encoders read.

CLIP's vocabulary is a file of the published models, not ours: a folder of it can be given. Without,
every object has the encoders' fixed prompt, and captions are not read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from geco_core.config.crm import ConditionEncodersConfig
from geco_core.errors import ConfigError

TokenIds = Callable[[str], tuple[int, ...]]


def prompt_reader(tokenizer: str, encoders: ConditionEncodersConfig) -> TokenIds:
    """What turns a caption into token ids without begin, end and padding.

    Args:
        tokenizer: folder with `vocab.json` and `merges.txt` of CLIP; empty for none.
        encoders: the text tower's window bounds the ids, its vocabulary must hold them.

    Raises:
        ConfigError: no such tokenizer, or one of another tower.
    """
    if not tokenizer:
        return lambda _: encoders.prompt_ids
    from transformers import CLIPTokenizer  # noqa: PLC0415 - only with captions

    try:
        found = CLIPTokenizer.from_pretrained(str(Path(tokenizer)), local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"there is no CLIP tokenizer in {tokenizer}: {error}",
            stage="train",
            remedy="give a folder with vocab.json and merges.txt, or examples.tokenizer= for none",
        ) from error
    if found.vocab_size > encoders.text.vocab_size:
        raise ConfigError(
            f"the tokenizer knows {found.vocab_size} words, the text tower "
            f"{encoders.text.vocab_size}",
            stage="train",
            remedy="give the tokenizer of this text tower",
        )
    window = encoders.text.max_position_embeddings - 2

    def read(caption: str) -> tuple[int, ...]:
        if not caption:
            return encoders.prompt_ids
        ids = found(caption, add_special_tokens=False)["input_ids"]
        return tuple(int(token) for token in ids)[:window]

    return read
