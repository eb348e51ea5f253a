"""Human action, as VBench defines it: 1 if UMT ViT-L/16 recognises the action that the prompt names, else 0."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import Field

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.scorers.shared.file_weights import check_file
from videodpo.scorers.shared.human_actions import named_action, read_actions
from videodpo.weights.locations import NotFetched, resolve

if TYPE_CHECKING:
    import torch

TOP, THRESHOLD = 5, 0.85


class HumanAction(NetworkScorer):
    """1 if one of the 5 most likely actions has a probability of at least 0.85 and is the prompt's, else 0.

    Probabilities are rounded to 4 digits. The network sees 16 frames, the middles of 16 equal intervals; a shorter clip
    uses all frames, the last one repeated. A prompt that names none of the 400 actions is refused. Weights:
    `l16_ptk710_ftk710_ftk400_f16_res224.pth` and `kinetics_400_categories.txt`.
    """

    version = "1"

    class Options(NetworkScorer.Options):
        """Weights of the network, and names of the actions."""

        weights: list[str] = Field(
            ["public:l16_ptk710_ftk710_ftk400_f16_res224.pth", "public:kinetics_400_categories.txt"],
            min_length=2,
            max_length=2,
        )
        """Two files, the network's weights and then the list of actions; each a path or `public:<file>`."""

    @staticmethod
    def check(options: Section) -> None:
        assert isinstance(options, HumanAction.Options)
        network, actions = options.weights
        check_file(network)
        with suppress(NotFetched):
            read_actions(resolve(actions))

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.umt import UmtActions

        assert isinstance(options, HumanAction.Options)
        self.check(options)
        network, actions = map(resolve, options.weights)
        self._actions = read_actions(actions)
        self.backbone = UmtActions.shared(network, choose_device(device), self._actions)

    def value(self, clip: Clip, outputs: Mapping[int, torch.Tensor]) -> float:
        found = outputs[0].topk(TOP)
        likely = [
            self._actions[number]
            for number, probability in zip(found.indices.tolist(), found.values.tolist(), strict=True)
            if round(probability, 4) >= THRESHOLD
        ]
        return float(named_action(clip.prompt) in likely)
