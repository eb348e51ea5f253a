"""What a scorer is: options, weights, a version, and one clip to one number.

Scorer modules import nothing heavy at the top (the workflow reads their options and version at every
start); networks and their libraries are imported in `__init__`.

Legend: T frames, C channel, H, W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from videodpo.config import Section

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True, eq=False)
class Clip:
    """A decoded clip: uint8 RGB frames [T, H, W, 3], frames a second, and the prompt it was made for."""

    frames_THWC: np.ndarray
    fps: float
    prompt: str
    _on: dict[str, torch.Tensor] = field(default_factory=dict, init=False, repr=False)

    def pixels(self, device: str) -> torch.Tensor:
        """The frames on a torch device, uint8 [T, 3, H, W]: brought there once for all scorers."""
        if device not in self._on:
            import torch

            self._on[device] = torch.from_numpy(self.frames_THWC).to(device).permute(0, 3, 1, 2)
        return self._on[device]


class Scorer(ABC):
    """Scores one dimension; higher is better.

    Attributes:
        version: raised whenever the same clip would get another number.
        uses_gpu: whether a job on a cluster asks for a GPU.
        hub_files: patterns of the files that it reads of a `hub:` repository.
    """

    version: ClassVar[str]
    uses_gpu: ClassVar[bool] = False
    hub_files: ClassVar[tuple[str, ...]] = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")

    class Options(Section):
        """The scorer's block in the configuration."""

    @staticmethod
    def weights(options: Section) -> list[str]:
        """Paths (files or folders), `public:` or `hub:` names: what the option `weights` has, one or a list of them."""
        named = options.model_dump().get("weights", [])
        return [named] if isinstance(named, str) else list(named)

    @staticmethod  # noqa: B027 (most scorers have nothing to check)
    def check(options: Section) -> None:
        """What can be known of the options before a job starts, without loading a network.

        Raises:
            ValueError: weights of the wrong kind, for example; the message names the option.
        """

    @abstractmethod
    def __init__(self, options: Section, device: str) -> None:
        """Load what `score` needs.

        Args:
            device: as configured (`auto`, `cpu`, `cuda`); `videodpo.runtime.device.choose_device` makes torch's name
                of it, and is left alone by scorers without a network, which need no torch.
        """

    @abstractmethod
    def score(self, clip: Clip) -> float:
        """The clip's raw score.

        Raises:
            ValueError: the clip cannot be scored; the message becomes the row's error.
        """
