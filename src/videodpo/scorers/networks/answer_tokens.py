"""Answers of a judge as tokens of its model, and the expected value from their logits.

Legend: V vocabulary.
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
) -> tuple[int, list[int]]:
    """Find the answer in the last match of the pattern.

    Args:
        tokenizer: tokenizer of the model.
        ids: tokens that the model wrote.
        pattern: regular expression whose only group matches an answer.
        ways: result of `ways_to_write`.

    Returns:
        The step at which the answer's token was written, and the answer tokens it was chosen from.

    Raises:
        InputError: there is no match, or its group is not one of the answers.
    """
    text = _text(tokenizer, ids)
    matches = list(pattern.finditer(text))
    if not matches or matches[-1].group(1) is None:
        raise InputError(f"the judge's answer has no match for pattern: {text[:SHOWN]!r}")
    index = matches[-1].start(1)
    step = next(number for number in reversed(range(len(ids))) if len(_text(tokenizer, ids[:number])) <= index)
    for way in ways:
        if ids[step] in way and _text(tokenizer, [ids[step]]).strip() == matches[-1].group(1).strip():
            return step, way
    raise InputError(f"the judge answered {matches[-1].group(1)!r}, which is none of answers: {text[:SHOWN]!r}")


def expected_value(logits_V: torch.Tensor, tokens: Sequence[int], values: Sequence[float]) -> float:
    """Return the mean of the values weighted by the probabilities of their tokens: sum(v p) / sum(p).

    Args:
        logits_V: logits of one step.
        tokens: token of each answer.
        values: value of each answer.
    """
    weights = torch.softmax(logits_V[list(tokens)].double(), dim=0)
    return float(weights @ torch.tensor(values, dtype=torch.float64, device=weights.device))


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
