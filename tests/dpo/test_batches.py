"""Texts of the training: encoded once, kept without their padding."""

import torch

from videodpo.dpo.batches import PairData
from videodpo.models.base import VideoModel


class FourTokens:
    """Embeds a prompt as its number of letters in as many of four tokens as it has words."""

    def __init__(self):
        self.asked = []

    def encode_prompt(self, prompt):
        self.asked.append(prompt)
        text_LD = torch.zeros(4, 2)
        text_LD[: len(prompt.split())] = float(len(prompt))
        return {"text": text_LD, "mask": text_LD.any(dim=1)}


def test_a_text_is_encoded_once_and_comes_back_with_its_padding():
    model: VideoModel = FourTokens()  # type: ignore[assignment]
    data = PairData.__new__(PairData)
    data._model, data._texts = model, {}
    for prompt, words in (("a red cat", 3), ("", 0), ("one two three four", 4)):
        for _ in range(2):
            text_LD, mask_L = data._text(prompt).values()
            assert text_LD.shape == (4, 2)
            assert mask_L.tolist() == [True] * words + [False] * (4 - words)
            assert (text_LD[:words] == len(prompt)).all()
            assert (text_LD[words:] == 0).all()
        assert len(data._texts[prompt]["text"][0]) == words
    assert model.asked == ["a red cat", "", "one two three four"]
