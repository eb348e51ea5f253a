"""Options of a vision-language model that acts as a judge: what it is asked, and how its answer is read."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from videodpo.config.section import PositiveReal, Real, Section, WrongKeys
from videodpo.scorers.shared.folder_weights import FolderWeightsScorer

PROMPT = "{prompt}"


class Asked(Section):
    """What determines the judge's text. Scorers with equal values share one generation for each clip."""

    question: str | None = Field(None, min_length=1)
    """Text that follows the frames; `{prompt}` is replaced by the clip's prompt."""
    question_file: str | None = None
    """Python file whose longest text is the question, instead of `question`: a path, or `public:<file>`."""
    placeholder: str = Field(PROMPT, min_length=1)
    """Text in the question that stands for the clip's prompt."""
    answers: dict[str, Real] | None = Field(None, min_length=2)
    """Value of each answer. Each answer must be one token of the model."""
    answer_prefix: str = ""
    """Beginning of the judge's answer, verbatim, as if the judge had already written it."""
    max_new_tokens: int = Field(default=0, ge=0)
    """Maximum number of tokens that the judge writes. With 0, the score uses the first token's probabilities."""
    fps: PositiveReal = 2.0
    """Frames per second shown to the judge. Their number is even, between `min_frames` and `max_frames`."""
    nominal_times: bool = False
    """Tell the model that frames are 1 / `fps` apart, although an even number of frames is hardly ever exactly so."""
    min_frames: int = Field(default=4, ge=1)
    """Minimum number of frames with `fps`; a shorter clip uses all."""
    max_frames: int = Field(default=768, ge=2)
    """Maximum number of frames with `fps`."""
    num_frames: Annotated[int, Field(ge=1)] | None = None
    """Number of frames per clip, instead of `fps`."""
    spacing: Literal["ends", "starts"] = "ends"
    """Frames of `num_frames`: from the first to the last, or the starts of equal intervals."""
    images: bool = False
    """Show the frames as single images even if the model supports videos."""
    max_pixels: Annotated[int, Field(ge=1)] | None = None
    """Larger frames are scaled down to this number of pixels before the model's own processor."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of the network."""


class JudgeOptions(FolderWeightsScorer.Options, Asked):
    """Options of the judge, its question, and the values of its answers."""

    pattern: str | None = None
    """Regular expression with one group, which matches the answer in the judge's text. The last match counts."""
    score: Literal["expected", "most_likely", "written"] = "expected"
    """Expected value of the answer; or value of the most likely answer times its share of the answers' probability;
    or value of the written answer, or the written number if there are no `answers`."""

    @property
    def asked(self) -> Asked:
        """The part that determines the judge's text."""
        return Asked.model_validate(self.model_dump(include=set(Asked.model_fields)))

    @model_validator(mode="after")
    def _options_agree(self) -> JudgeOptions:
        if (self.question is None) == (self.question_file is None):
            raise WrongKeys(("question", "give either question or question_file"))
        if self.max_frames < self.min_frames:
            raise WrongKeys(("max_frames", f"{self.max_frames}, less than min_frames {self.min_frames}"))
        if self.spacing == "starts" and self.num_frames is None:
            raise WrongKeys(("spacing", "'starts' has no effect without num_frames"))
        if self.nominal_times and self.num_frames is not None:
            raise WrongKeys(("nominal_times", "has no effect with num_frames, which replaces fps"))
        if self.answers is None and self.score != "written":
            raise WrongKeys(("answers", f"missing; the score {self.score!r} needs the value of each answer"))
        if self.max_new_tokens == 0 and self.pattern is not None:
            raise WrongKeys(("pattern", "has no effect without max_new_tokens: the judge writes nothing"))
        if self.max_new_tokens == 0 and self.score == "written":
            raise WrongKeys(("score", "'written' needs max_new_tokens: the judge writes nothing"))
        if self.max_new_tokens > 0:
            _check_pattern(self.pattern)
        return self


def _check_pattern(pattern: str | None) -> None:
    if pattern is None:
        raise WrongKeys(("pattern", "needed where the judge writes (max_new_tokens)"))
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise WrongKeys(("pattern", f"{pattern!r} is not a regular expression: {error}")) from error
    if groups != 1:
        raise WrongKeys(("pattern", f"{pattern!r} has {groups} groups, one is needed: the answer"))
