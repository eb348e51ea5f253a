"""LTX-Video's text and flow shift."""

import diffusers
import torch

from tests.models.test_families import PROMPT, settings_of, texts
from tests.support.families import FAMILIES, write
from videodpo.models.ltx_video import LtxVideoModel


def load(folder, tokens=None):
    settings = settings_of(FAMILIES["ltx_video"], folder)
    return LtxVideoModel(settings.model_copy(update={"max_sequence_length": tokens or 32}), "cpu")


def test_padding_does_not_change_the_embeddings(tmp_path):
    folder = write(FAMILIES["ltx_video"], tmp_path)
    short, long = (load(folder, tokens).encode_prompt(PROMPT) for tokens in (32, 256))
    words = int(short["prompt_attention_mask"].sum())
    assert words == int(long["prompt_attention_mask"].sum()) < 32
    torch.testing.assert_close(long["prompt_embeds"][:words], short["prompt_embeds"][:words], rtol=0, atol=1e-6)
    assert not long["prompt_embeds"][words:].any()


def test_a_flow_shift_replaces_the_one_computed_from_the_token_count(tmp_path):
    family = FAMILIES["ltx_video"]
    folder = write(family, tmp_path / "dynamic")
    pipe = diffusers.LTXPipeline.from_pretrained(folder)
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=4.0)
    pipe.save_pretrained(tmp_path / "fixed")
    model, other = load(folder), load(tmp_path / "fixed")
    text = texts(model, PROMPT)
    shifted = family.sampling.model_copy(update={"flow_shift": 4.0})
    found, own = (model.sample(text, [1], sampling) for sampling in (shifted, family.sampling))
    torch.testing.assert_close(found, other.sample(text, [1], family.sampling), rtol=0, atol=1e-6)
    assert not torch.allclose(found, own, atol=1e-3)
