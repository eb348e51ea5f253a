"""Base of the scorers that look for a scene in captions by Tag2Text."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from pydantic import Field

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.scorers.shared.file_weights import check_file, file_in
from videodpo.weights.locations import NotFetched, resolve

VOCABULARY = "vocab.txt"


class SceneScorer(NetworkScorer):
    """A share of captions that name the clip's scene."""

    hub_files = (VOCABULARY,)

    class Options(NetworkScorer.Options):
        """Weights of Tag2Text, and its lists of words."""

        weights: list[str] = Field(
            [
                "public:tag2text_swin_14m.pth",
                "hub:google-bert/bert-base-uncased@86b5e0934494bd15c9632b12f734a8a67f723594",
                "public:tag2text_ori_tag_list.txt",
            ],
            min_length=3,
            max_length=3,
        )
        """Three, in this order: Tag2Text's checkpoint; `vocab.txt` of BERT-uncased, or the folder that has it; the
        authors' list of tags, one per line."""

    @staticmethod
    def check(options: Section) -> None:
        assert isinstance(options, SceneScorer.Options)
        checkpoint, *lists = options.weights
        check_file(checkpoint)
        for location in lists:
            with suppress(NotFetched):
                file_in(location, VOCABULARY)

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.tag2text import Tag2TextCaptions

        assert isinstance(options, SceneScorer.Options)
        checkpoint, *lists = options.weights
        check_file(checkpoint)
        files = resolve(checkpoint), *(file_in(location, VOCABULARY) for location in lists)
        self.backbone = Tag2TextCaptions.shared(*files, choose_device(device))


def share_with_scene(clip: Clip, captions: Iterable[str]) -> float:
    """Share of captions that contain every word of the clip's scene, as a word or as a part of one."""
    words = clip.info["scene"].split(" ")
    found = [all(word in caption for word in words) for caption in captions]
    return sum(found) / len(found)
