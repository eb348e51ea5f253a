"""Finds prompts that say the same: letter for letter, or nearly."""

from __future__ import annotations

import hashlib
import unicodedata

from datasketch import MinHash, MinHashLSH

_NUM_PERM = 128
_MAX_MISS = 1e-4  # probability of overlooking a prompt whose similarity is just the threshold
_SHINGLE = 3  # tokens
# Scripts that put no blanks between words; there a character is a token: Thai and Lao, Tibetan, Burmese, Khmer, CJK.
_UNSPACED = (
    (0x0E00, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3040, 0x312F),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x20000, 0x3FFFF),
)


def exact_key(text: str) -> bytes:
    """16 bytes that are the same for texts that differ in case and blanks only."""
    folded = " ".join(text.casefold().split())
    return hashlib.blake2b(folded.encode(), digest_size=16).digest()


def shingles(text: str) -> frozenset[str]:
    """Runs of 3 words, without case and punctuation; a shorter text is one run.

    In scripts without blanks between words each character counts as a word.
    """
    tokens = text.casefold().translate(_TOKENS).split() or [text]
    return frozenset(" ".join(tokens[i : i + _SHINGLE]) for i in range(max(1, len(tokens) - _SHINGLE + 1)))


class NearDuplicates:
    """Remembers the prompts it accepted, and refuses those that are too similar to one of them.

    MinHash with LSH proposes candidates and the exact Jaccard similarity of the shingles decides: nothing below
    the threshold is refused, and what reaches it is overlooked with a probability of 1e-4 at most (for
    thresholds from 0.1; below, a few in a hundred at most).
    """

    def __init__(self, threshold: float) -> None:
        """threshold: Jaccard similarity in (0, 1] from which a prompt is refused; 1 refuses none."""
        self._threshold = threshold
        self._texts: list[str] = []
        self._template = MinHash(num_perm=_NUM_PERM, seed=1)
        self._index = MinHashLSH(num_perm=_NUM_PERM, params=_bands(threshold))

    def add(self, text: str) -> tuple[str, float] | None:
        """None if the text was accepted, otherwise the first similar one accepted and the similarity."""
        if self._threshold == 1:
            return None
        own = shingles(text)
        signature = self._template.copy()
        # Sorted for the same work in the same order; the signature itself is a minimum over the set.
        signature.update_batch([shingle.encode() for shingle in sorted(own)])
        for candidate in sorted(self._index.query(signature)):
            similarity = _jaccard(own, shingles(self._texts[candidate]))
            if similarity >= self._threshold:
                return self._texts[candidate], similarity
        self._index.insert(len(self._texts), signature)
        self._texts.append(text)
        return None


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def _bands(threshold: float) -> tuple[int, int]:
    """Bands and rows a band: as many rows (few candidates) as `_MAX_MISS` allows at the threshold."""
    for rows in range(16, 1, -1):
        bands = _NUM_PERM // rows
        if (1 - threshold**rows) ** bands <= _MAX_MISS:
            return bands, rows
    return _NUM_PERM, 1


class _TokenTable(dict[int, str]):
    """For str.translate: blanks for punctuation, blanks around characters that are words, others as they are."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if unicodedata.category(char)[0] in "PZC":
            char = " "
        elif any(first <= code <= last for first, last in _UNSPACED):
            char = f" {char} "
        self[code] = char
        return char


_TOKENS = _TokenTable()
