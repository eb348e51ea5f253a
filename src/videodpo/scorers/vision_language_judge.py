"""Any vision-language model as a judge: it is asked about a clip, and its answer is read off its probabilities."""

from __future__ import annotations

from collections.abc import Mapping

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import Result
from videodpo.scorers.shared.folder_weights import FolderWeightsScorer, folder_of
from videodpo.scorers.shared.judge_options import JudgeOptions


class VisionLanguageJudge(FolderWeightsScorer):
    """The expected value of the judge's answer, over the `answers` that it may give; greedy, so always the same.

    With `max_new_tokens: 0` one pass gives the probabilities of the token that follows `answer_prefix`. A judge that
    reasons first writes up to `max_new_tokens`; `pattern` finds the answer in what it wrote, and the probabilities are
    those at that token. A clip whose answer has no match is refused, as is an empty prompt where the question has one.
    Weights: a folder of any model that transformers loads as image-text-to-text, without code of its own.
    """

    version = "1"

    class Options(JudgeOptions):
        """The judge, the question, and how its answer becomes a number."""

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.judge import Judge

        assert isinstance(options, JudgeOptions)
        self.backbone = Judge(folder_of(options), choose_device(device), options)

    def value(self, clip: Clip, answers: Mapping[int, Result]) -> float:
        answer = answers[0]
        if isinstance(answer, ValueError):
            raise answer
        return answer
