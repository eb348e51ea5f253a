"""Any vision-language model as a judge: it is asked about a clip, and its answer is read off its probabilities."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from videodpo.config import Section
from videodpo.config.section import PositiveReal, Real, WrongKeys
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import Result
from videodpo.scorers.shared.folder_weights import FolderWeightsScorer, folder_of

PROMPT = "{prompt}"


class VisionLanguageJudge(FolderWeightsScorer):
    """The expected value of the judge's answer, over the `answers` that it may give; greedy, so always the same.

    With `max_new_tokens: 0` one pass gives the probabilities of the token that follows `answer_prefix`. A judge that
    reasons first writes up to `max_new_tokens`; `pattern` finds the answer in what it wrote, and the probabilities are
    those at that token. A clip whose answer has no match is refused, as is an empty prompt where the question has one.
    Weights: a folder of any model that transformers loads as image-text-to-text, without code of its own.
    """

    version = "1"

    class Options(FolderWeightsScorer.Options):
        """The judge, the question, and how its answer becomes a number."""

        question: str = Field(..., min_length=1)
        """What it is asked after it was shown the frames; `{prompt}` stands for the clip's prompt."""
        answers: dict[str, Real] = Field(..., min_length=2)
        """Answer: its value. Each answer is one token of the model."""
        answer_prefix: str = ""
        """What the judge's answer begins with, word for word, as if it had written that already."""
        max_new_tokens: int = Field(default=0, ge=0)
        """Tokens that the judge writes at most; 0: none, the first token's probabilities are the answer."""
        pattern: str | None = None
        """Regular expression with one group, which finds one of `answers` in what the judge wrote; the last match."""
        fps: PositiveReal = 2.0
        """Frames of a second that it is shown: an even number between `min_frames` and `max_frames`."""
        min_frames: int = Field(default=4, ge=1)
        """At least so many by `fps`, or as many as the clip has."""
        max_frames: int = Field(default=768, ge=2)
        """At most so many by `fps`."""
        num_frames: Annotated[int, Field(ge=1)] | None = None
        """So many of every clip, whatever `fps` says."""
        max_pixels: Annotated[int, Field(ge=1)] | None = None
        """Larger frames are scaled to so many pixels before the model's own processor has them."""
        dtype: Literal["float32", "bfloat16", "float16"] = "float32"
        """Of the network."""

        @model_validator(mode="after")
        def _options_agree(self) -> VisionLanguageJudge.Options:
            if self.max_frames < self.min_frames:
                raise WrongKeys(("max_frames", f"{self.max_frames}, less than min_frames {self.min_frames}"))
            if self.max_new_tokens == 0 and self.pattern is not None:
                raise WrongKeys(("pattern", "has no effect without max_new_tokens: the judge writes nothing"))
            if self.max_new_tokens > 0:
                _check_pattern(self.pattern)
            return self

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.judge import Judge

        assert isinstance(options, VisionLanguageJudge.Options)
        self.backbone = Judge(folder_of(options), choose_device(device), options)

    def value(self, clip: Clip, answers: Mapping[int, Result]) -> float:
        answer = answers[0]
        if isinstance(answer, ValueError):
            raise answer
        return answer


def _check_pattern(pattern: str | None) -> None:
    if pattern is None:
        raise WrongKeys(("pattern", "needed where the judge writes (max_new_tokens)"))
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise WrongKeys(("pattern", f"{pattern!r} is no regular expression: {error}")) from error
    if groups != 1:
        raise WrongKeys(("pattern", f"{pattern!r} has {groups} groups, one is needed: the answer"))
