"""Answers of a judge as tokens of its model, and the expected value from their logits.

Legend: A answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from videodpo.config.errors import InputError

SHOWN = 200  # characters of an answer in an error message


def answer_tokens(tokenizer: Any, before: str, answers: Sequence[str]) -> list[int]:
    """Return the token of each answer when it follows the text `before`.

    Args:
        tokenizer: tokenizer of the model.
        before: text up to the answer.
        answers: the allowed answers.

    Raises:
        InputError: an answer is not a single token there, or two answers have the same token; the message names it.
    """
    start = tokenizer(before, add_special_tokens=False)["input_ids"]
    tokens: dict[int, str] = {}
    for answer in answers:
        ids = tokenizer(before + answer, add_special_tokens=False)["input_ids"]
        if ids[:-1] != start or ids[-1] == tokenizer.unk_token_id:
            raise InputError(
                f"answers: {answer!r} is not one token of this model after {before[-30:]!r}; "
                "choose another answer, or an answer_prefix that ends elsewhere"
            )
        if ids[-1] in tokens:
            raise InputError(f"answers: {tokens[ids[-1]]!r} and {answer!r} are the same token of this model")
        tokens[ids[-1]] = answer
    return list(tokens)


def ways_to_write(tokenizer: Any, answers: Sequence[str]) -> list[list[int]]:
    """Return the possible tokens of the answers within a text, without and with a preceding space.

    Returns:
        One list of tokens for each way in which every answer is a single token.

    Raises:
        InputError: there is no such way; the message names an answer that is more than one token.
    """
    ways: list[list[int]] = []
    problems: list[ValueError] = []
    for before, space in ((":", ""), ("\n", ""), (":", " ")):
        try:
            way = answer_tokens(tokenizer, before, [space + answer for answer in answers])
        except ValueError as error:
            problems.append(error)
        else:
            ways += [] if way in ways else [way]
    if not ways:
        raise problems[0]
    return ways


def found_answer(
    tokenizer: Any, ids: Sequence[int], pattern: re.Pattern[str], ways: Sequence[list[int]]
) -> tuple[int, int]:
    """Find the token of the answer in the last match of the pattern.

    Args:
        tokenizer: tokenizer of the model.
        ids: tokens that the model wrote.
        pattern: regular expression whose only group matches an answer.
        ways: result of `ways_to_write`.

    Returns:
        The step at which the token was written, and which of `ways` it belongs to.

    Raises:
        InputError: there is no match, or its group is not one of the answers.
    """
    text = _text(tokenizer, ids)
    found = last_match(text, pattern)
    step = next(number for number in reversed(range(len(ids))) if len(_text(tokenizer, ids[:number])) <= found.start(1))
    for number, way in enumerate(ways):
        if ids[step] in way and _text(tokenizer, [ids[step]]).strip() == found.group(1).strip():
            return step, number
    raise InputError(f"the judge answered {found.group(1)!r}, which is none of answers: {text[:SHOWN]!r}")


def written_answer(tokenizer: Any, ids: Sequence[int], pattern: re.Pattern[str]) -> str:
    """Return the answer as written: the group of the last match.

    Raises:
        InputError: there is no match.
    """
    return last_match(_text(tokenizer, ids), pattern).group(1).strip()


def last_match(text: str, pattern: re.Pattern[str]) -> re.Match[str]:
    """Find the last match of the pattern after the judge's reasoning, which ends in `</think>`.

    Raises:
        InputError: there is no match, or the reasoning does not end.
    """
    reasoning = text.rfind("</think>")
    if reasoning < 0 and "<think>" in text:
        raise InputError(f"the judge's reasoning does not end; raise max_new_tokens: {text[-SHOWN:]!r}")
    matches = list(pattern.finditer(text, max(reasoning, 0)))
    if not matches or matches[-1].group(1) is None:
        raise InputError(f"the judge's answer has no match for pattern: {text[max(reasoning, 0) :][:SHOWN]!r}")
    return matches[-1]


def expected_value(logits_A: torch.Tensor, values: Sequence[float]) -> float:
    """Return the mean of the values weighted by the probabilities of their answers: sum(v p) / sum(p).

    Args:
        logits_A: logit of each answer.
        values: value of each answer.
    """
    weights = torch.softmax(logits_A.double(), dim=0)
    return float(weights @ torch.tensor(values, dtype=torch.float64))


def most_likely_value(logits_A: torch.Tensor, values: Sequence[float]) -> float:
    """Return the value of the most likely answer times its share of the answers' probability, with four decimals.

    This is the score of VideoScore2's authors. It is no expected value: an even 2 and 3 have 1, a certain 3 has 3.
    """
    weights = torch.softmax(logits_A.double(), dim=0)
    best = int(weights.argmax())
    return round(values[best] * float(weights[best]), 4)


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
