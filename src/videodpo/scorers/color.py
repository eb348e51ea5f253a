"""Color, as VBench defines it: how often GRiT's captions give the prompt's object the asked color."""

from __future__ import annotations

from collections.abc import Sequence

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip, NoResult
from videodpo.scorers.shared.grit import Detection, GritScorer

COLORS = (
    *("white", "red", "pink", "blue", "silver", "purple"),
    *("orange", "green", "gray", "yellow", "black", "grey"),
)


class Color(GritScorer):
    """Share of the frames with the object in which it has the color that the clip's info gives as `color`; 0..1.

    As in VBench, the object is the prompt without the color and without "a " and "an ". A frame has it if that is the
    name of the most certain box, and if the caption of any box has a color. The object has the asked color if the
    caption of any box has that color. A clip without such a frame has no result.
    """

    version = "1"
    needs = ("color",)
    captions = True

    def refuse(self, clip: Clip) -> None:
        super().refuse(clip)
        if (color := clip.info["color"]) not in COLORS:  # frames could have it without counting as colored
            raise InputError(f"color is {color!r}; it must be one of {', '.join(COLORS)}")

    def score_frames(self, clip: Clip, frames: Sequence[Sequence[Detection]]) -> float:
        color = clip.info["color"]
        object_name = clip.prompt.replace("a ", "").replace("an ", "").replace(color, "").strip()
        captions = [[one.caption for one in found] for found in frames if found and found[0].name == object_name]
        colored = sum(any(known in text for text in texts for known in COLORS) for texts in captions)
        if not colored:
            raise NoResult(f"no frame shows the object {object_name!r} with a color")
        return sum(any(color in text for text in texts) for texts in captions) / colored
