"""A vision-language model as a judge: the score is read from what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from videodpo.config import HUB_PREFIX, Section
from videodpo.config.errors import InputError
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.folder_weights import FolderWeightsScorer
from videodpo.scorers.shared.judge_options import JudgeOptions
from videodpo.scorers.shared.python_texts import longest_text
from videodpo.weights.locations import PUBLIC_PREFIX

if TYPE_CHECKING:
    from videodpo.scorers.networks.judge import Answer, Judge


class VisionLanguageJudge(FolderWeightsScorer):
    """Score of the judge's answer, by default its expected value over the allowed `answers`. Decoding is greedy.

    With `max_new_tokens: 0`, one pass gives the probabilities of the token after `answer_prefix`. A judge that reasons
    first writes up to `max_new_tokens` tokens. `pattern` then finds the answer in this text, and the probabilities are
    those at its token. A clip without a match is refused, and so is an empty prompt if the question includes the
    prompt. Dimensions whose options differ in `pattern` and `score` only read one text, which is generated once.
    Weights: folder of any model that transformers loads as image-text-to-text without custom code.
    """

    version = "2"
    backbone: Judge

    class Options(JudgeOptions):
        """Options of the judge, its question, and the values of its answers."""

    @staticmethod
    def weights(options: Section) -> list[str]:
        """Return the folder, and the file of the question, which decides the numbers as much."""
        assert isinstance(options, JudgeOptions)
        return [location for location in (options.weights, options.question_file) if location is not None]

    @classmethod
    def check(cls, options: Section) -> None:
        assert isinstance(options, JudgeOptions)
        super().check(options)
        location = options.question_file
        if location is None or location.startswith(PUBLIC_PREFIX):  # a published file may be fetched later
            return
        if location.startswith(HUB_PREFIX):
            raise InputError(f"question_file: {location!r} is a repository; give a path, or {PUBLIC_PREFIX}<file>")
        longest_text(Path(location))

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.judge import Judge

        assert isinstance(options, JudgeOptions)
        self._options = options
        asked = options.asked.model_dump_json()
        self.backbone = Judge.shared(self.folder(options), choose_device(device), asked)

    def value(self, clip: Clip, outputs: Mapping[int, Answer]) -> float:
        return self.backbone.read(outputs[0], self._options)
