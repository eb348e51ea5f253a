"""Computing only the class token gives the same as the libraries' blocks."""

from __future__ import annotations

import copy

import pytest
import torch
from open_clip.transformer import QuickGELU, Transformer
from pyiqa.archs.musiq_arch import TransformerBlock as MusiqBlock
from timm.models.beit import Block as BeitBlock
from timm.models.vision_transformer import Block as TimmBlock

from videodpo.scorers.networks.vision_blocks import Block, all_tokens, class_token

WIDTH, HEADS, LAYERS = 32, 4, 3


def open_clip_blocks():
    return list(Transformer(WIDTH, LAYERS, HEADS, act_layer=QuickGELU).resblocks), Block.of_open_clip


def timm_blocks():
    return [TimmBlock(WIDTH, HEADS, qkv_bias=True) for _ in range(LAYERS)], Block.of_timm


def beit_blocks():
    return [BeitBlock(WIDTH, HEADS, qkv_bias=True) for _ in range(LAYERS)], Block.of_beit


def musiq_blocks():
    return [MusiqBlock(WIDTH, 2 * WIDTH, HEADS) for _ in range(LAYERS)], Block.of_musiq


MAKERS = [open_clip_blocks, timm_blocks, beit_blocks, musiq_blocks]


@torch.no_grad()
def both_ways(make, length):
    """The first token by `class_token`, and by the library's blocks."""
    torch.manual_seed(0)
    theirs, convert = make()
    for parameter in (parameter for block in theirs for parameter in block.parameters()):
        parameter.copy_(0.3 * torch.randn_like(parameter))
    blocks = [convert(copy.deepcopy(block).eval()) for block in theirs]
    states = torch.randn(3, length, WIDTH)
    expected = states
    for block in theirs:
        masks = [torch.ones(3, length)] if isinstance(block, MusiqBlock) else []
        expected = block.eval()(expected, *masks)
    return class_token(states, blocks), expected[:, 0]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("length", [1, 2, 50])
def test_the_first_token_equals_the_librarys(make, length):
    found, expected = both_ways(make, length)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_all_tokens_equal_the_librarys():
    torch.manual_seed(0)
    theirs, convert = timm_blocks()
    states = torch.randn(3, 50, WIDTH)
    expected = torch.nn.Sequential(*theirs).eval()(states)
    torch.testing.assert_close(all_tokens(states, map(convert, theirs)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", MAKERS)
def test_products_of_two_bfloat16_change_it_little(make, matrix_units):
    found, expected = both_ways(make, 50)
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, atol=3e-4, rtol=1e-4)
