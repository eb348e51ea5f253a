"""Human action, as VBench defines it: 1 if UMT ViT-L/16 recognises the action that the prompt names, else 0."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.scorers.shared.file_weights import check_file
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
        self.backbone = UmtActions.shared(network, choose_device(device), len(self._actions))

    def refuse(self, clip: Clip) -> None:
        if (action := named_action(clip.prompt)) not in self._actions:
            known = f"the {len(self._actions)} actions, like 'A person is {self._actions[0]}'"
            raise InputError(f"human_action needs a prompt that names one of {known}; {action!r} is none of them")

    def value(self, clip: Clip, answers: Mapping[int, torch.Tensor]) -> float:
        found = answers[0].topk(TOP)
        likely = [
            self._actions[number]
            for number, probability in zip(found.indices.tolist(), found.values.tolist(), strict=True)
            if round(probability, 4) >= THRESHOLD
        ]
        return float(named_action(clip.prompt) in likely)


def named_action(prompt: str) -> str:
    """Return the action that a prompt names, as VBench reads it from the name of a clip's file."""
    return prompt.lower().partition("-")[0].split("person is ")[-1].partition("_")[0]


def read_actions(path: Path) -> list[str]:
    """Read the names of the actions in lower case, by number, from lines of name, tab, and number.

    Raises:
        InputError: the file is not such a list, or its numbers are not 0, 1, 2 and so on.
    """
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        actions = {int(number): name.lower() for name, number in rows}
    except (OSError, ValueError) as error:
        raise InputError(f"weights: {path}: not a list of actions, with a name, a tab and a number per line") from error
    if sorted(actions) != list(range(len(rows))):
        raise InputError(f"weights: {path}: the numbers of the {len(rows)} actions are not 0, 1, 2 and so on")
    return [actions[number] for number in range(len(actions))]
