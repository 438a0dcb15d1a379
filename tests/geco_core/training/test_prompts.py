"""Captions become token ids where there is a vocabulary, else the fixed prompt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from geco_core.errors import ConfigError
from geco_core.training.prompts import prompt_reader
from tests.geco_core.multiview.crm_models import ENCODERS

WORDS = ["<|startoftext|>", "<|endoftext|>", "a", "b", "a</w>", "b</w>", "ab</w>"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    (tmp_path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    return str(tmp_path)


def test_without_a_vocabulary_every_caption_is_the_fixed_prompt() -> None:
    read = prompt_reader("", ENCODERS)
    assert read("a red chair") == read("") == ENCODERS.prompt_ids


def test_captions_are_cut_at_the_window(tokenizer: str) -> None:
    read = prompt_reader(tokenizer, ENCODERS)
    assert read("ab b") == (6, 5)
    assert read("") == ENCODERS.prompt_ids
    window = ENCODERS.text.max_position_embeddings - 2
    assert read("a " * 50) == (4,) * window


def test_foreign_vocabularies_are_refused(tokenizer: str, tmp_path: Path) -> None:
    small = replace(ENCODERS, text=replace(ENCODERS.text, vocab_size=5))
    with pytest.raises(ConfigError, match="knows 7 words, the text tower 5"):
        prompt_reader(tokenizer, small)
    with pytest.raises(ConfigError, match="no CLIP tokenizer"):
        prompt_reader(str(tmp_path / "nothing"), ENCODERS)
