"""A vision-language model as a judge: the score is computed from the probabilities of its answers."""

from __future__ import annotations

from collections.abc import Mapping

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import Result
from videodpo.scorers.shared.folder_weights import FolderWeightsScorer
from videodpo.scorers.shared.judge_options import JudgeOptions


class VisionLanguageJudge(FolderWeightsScorer):
    """Expected value of the judge's answer over the allowed `answers`. Decoding is greedy, so it is deterministic.

    With `max_new_tokens: 0`, one pass gives the probabilities of the token after `answer_prefix`. A judge that reasons
    first writes up to `max_new_tokens` tokens. `pattern` then finds the answer in this text, and the probabilities are
    those at its token. A clip without a match is refused, and so is an empty prompt if the question contains
    `{prompt}`. Weights: folder of any model that transformers loads as image-text-to-text without custom code.
    """

    version = "1"

    class Options(JudgeOptions):
        """Options of the judge, its question, and the values of its answers."""

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.judge import Judge

        assert isinstance(options, JudgeOptions)
        self.backbone = Judge(self.folder(options), choose_device(device), options)

    def value(self, clip: Clip, answers: Mapping[int, Result]) -> float:
        answer = answers[0]
        if isinstance(answer, ValueError):
            raise answer
        return answer
