"""Find exact and near duplicates among prompts."""

from __future__ import annotations

import hashlib
import unicodedata

from datasketch import MinHash, MinHashLSH

_NUM_PERM = 128
_MAX_MISS = 1e-4  # probability of missing a prompt whose similarity is exactly the threshold
_SHINGLE = 3  # tokens
# Scripts without blanks between words, where each character is a token: Thai and Lao, Tibetan, Burmese, Khmer, CJK.
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
    """Key of 16 bytes, the same for texts that differ only in case and blanks."""
    folded = " ".join(text.casefold().split())
    return hashlib.blake2b(folded.encode(), digest_size=16).digest()


def shingles(text: str) -> frozenset[str]:
    """Runs of 3 words, without case and punctuation; a shorter text is a single run.

    In scripts without blanks between words, each character counts as a word.
    """
    tokens = text.casefold().translate(_TOKENS).split() or [text]
    return frozenset(" ".join(tokens[i : i + _SHINGLE]) for i in range(max(1, len(tokens) - _SHINGLE + 1)))


class NearDuplicates:
    """Remembers accepted prompts, and refuses prompts that are too similar to one of them.

    MinHash with LSH proposes candidates, and the exact Jaccard similarity of the shingles decides. Nothing below the
    threshold is refused. A prompt that reaches the threshold is missed with a probability of at most 1e-4 (for
    thresholds from 0.1; at most a few percent for lower ones).
    """

    def __init__(self, threshold: float) -> None:
        """Refuse prompts from this threshold on: a Jaccard similarity in (0, 1]; 1 refuses none."""
        self._threshold = threshold
        self._texts: list[str] = []
        self._template = MinHash(num_perm=_NUM_PERM, seed=1)
        self._index = MinHashLSH(num_perm=_NUM_PERM, params=_bands(threshold))

    def add(self, text: str) -> tuple[str, float] | None:
        """Add a text; return None if it was accepted, else the first similar accepted text and the similarity."""
        if self._threshold == 1:
            return None
        own = shingles(text)
        signature = self._template.copy()
        # Sorted for the same work in the same order; the signature, a minimum over the set, does not depend on it.
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
    """Number of bands, and rows per band: as many rows (few candidates) as `_MAX_MISS` allows at the threshold."""
    for rows in range(16, 1, -1):
        bands = _NUM_PERM // rows
        if (1 - threshold**rows) ** bands <= _MAX_MISS:
            return bands, rows
    return _NUM_PERM, 1


class _TokenTable(dict[int, str]):
    """Table for str.translate: blanks for punctuation, and blanks around characters that are words."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if unicodedata.category(char)[0] in "PZC":
            char = " "
        elif any(first <= code <= last for first, last in _UNSPACED):
            char = f" {char} "
        self[code] = char
        return char


_TOKENS = _TokenTable()
