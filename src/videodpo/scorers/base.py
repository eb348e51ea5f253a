"""Interface of a scorer: options, weights, a version, and a function from a clip to a number.

Scorer modules import nothing heavy at the top, because the workflow reads their options and version at every start.
They import networks and their libraries in `__init__`.

Legend: T frames, C channel, H, W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from videodpo.config import Section
from videodpo.config.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch


NO_RESULT = "no result: "


class NoResult(InputError):
    """A clip that the benchmark leaves out of its mean, which is not a failure; the text says why."""

    def __init__(self, reason: str) -> None:
        """Put `NO_RESULT` in front of the reason, because tables hold the text alone."""
        super().__init__(NO_RESULT + reason)


@dataclass(frozen=True, eq=False)
class Clip:
    """A decoded clip: uint8 RGB frames [T, H, W, 3], frames per second, the prompt it was generated for, and its MP4.

    The path may be a byte range in a tar file (`videodpo.storage.clips`); None if there is no file. `info` is what a
    benchmark's prompt list says about the prompt, for example {"object": "cat"}.
    """

    frames_THWC: np.ndarray
    fps: float
    prompt: str
    path: Path | None = None
    info: dict[str, str] = field(default_factory=dict)
    _on: dict[str, torch.Tensor] = field(default_factory=dict, init=False, repr=False)

    def pixels(self, device: str) -> torch.Tensor:
        """Return the frames on a torch device, uint8 [T, 3, H, W]. They are copied once for all scorers."""
        if device not in self._on:
            import torch

            self._on[device] = torch.from_numpy(self.frames_THWC).to(device).permute(0, 3, 1, 2)
        return self._on[device]


class Scorer(ABC):
    """Scores one dimension; higher is better.

    Attributes:
        version: increased whenever the same clip would get a different score.
        uses_gpu: True if a cluster job requests a GPU.
        embeds_frames: True for a `ConsistencyScorer`, whose network embeds frames without their prompt.
        hub_files: patterns of the files that are read from a `hub:` repository.
        options_without_effect: names of the options that cannot change a score. An edit does not score clips again.
    """

    version: ClassVar[str]
    uses_gpu: ClassVar[bool] = False
    embeds_frames: ClassVar[bool] = False
    hub_files: ClassVar[tuple[str, ...]] = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")

    options_without_effect: ClassVar[frozenset[str]] = frozenset()

    class Options(Section):
        """Options of the scorer in the configuration."""

    @staticmethod
    def weights(options: Section) -> list[str]:
        """Return the option `weights` as a list of paths (files or folders), `public:` or `hub:` names."""
        named = options.model_dump().get("weights", [])
        return [named] if isinstance(named, str) else list(named)

    @staticmethod
    def service_version(options: Section) -> str | None:
        """Return the version of the service that computes the scores; None for a scorer that computes them here."""
        return None

    @staticmethod  # noqa: B027 (most scorers have nothing to check)
    def check(options: Section) -> None:
        """Check what can be known about the options before a job starts, without loading a network.

        Raises:
            ValueError: an option is wrong, for example the kind of weights; the message names the option.
        """

    @abstractmethod
    def __init__(self, options: Section, device: str) -> None:
        """Load what `score` needs.

        Args:
            device: as configured (`auto`, `cpu`, `cuda`). `videodpo.runtime.device.choose_device` converts it to
                torch's name. Scorers without a network do not call it, because they do not need torch.
        """

    @abstractmethod
    def score(self, clip: Clip) -> float:
        """Return the clip's raw score.

        Raises:
            ValueError: the clip cannot be scored; the message becomes the row's error.
        """
