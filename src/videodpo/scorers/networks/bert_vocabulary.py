"""BERT's tokenizer from its published vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import BertTokenizer

from videodpo.config.errors import InputError


def bert_tokenizer(vocabulary: Path) -> Any:
    """Return the tokenizer of BERT-uncased.

    Args:
        vocabulary: `vocab.txt`, with one word per line.

    Raises:
        InputError: the file is not such a list.
    """
    words = {word: number for number, word in enumerate(lines_of(vocabulary))}
    if lacking := [word for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if word not in words]:
        raise InputError(f"weights: {vocabulary}: has no line {lacking[0]}; it is not a vocabulary of BERT")
    return BertTokenizer(vocab=words, clean_up_tokenization_spaces=True)


def lines_of(path: Path) -> list[str]:
    """Read the lines of a text file; raise InputError if it is not one."""
    try:
        # Not splitlines, for which some characters of the vocabulary are ends of lines.
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"weights: {path}: not readable as a text file ({error})") from error
