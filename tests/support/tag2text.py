"""Tag2Text at tiny size with random weights, in the layout in which its authors publish it."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from videodpo.scorers.networks.tag2text import Sizes, Tag2TextNetwork

TINY = Sizes(
    side=32,
    window=4,
    image_width=16,
    image_layers=(2, 1),
    image_heads=(2, 2),
    text_width=32,
    text_layers=2,
    text_heads=2,
    tag_layers=1,
    tag_heads=4,
)
NOUNS = ["dog", "street", "beach", "zebra", "crossing", "alley"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "picture", "of", "|", "##es", "\u2028", *NOUNS]
TAGS = [*NOUNS, *(f"tag {number}" for number in range(len(NOUNS), 130))]


def tiny_tag2text(folder: Path) -> list[str]:
    """Write checkpoint, vocabulary and tags; return their paths in the order of the option `weights`."""
    torch.manual_seed(0)
    shapes = {
        name: value.shape for name, value in Tag2TextNetwork(TINY, len(TAGS), len(WORDS) + 2).state_dict().items()
    }
    tensors = {
        authors_name(name): 1 + 0.1 * torch.randn(shape) if is_gain(name) else 0.3 * torch.randn(shape)
        for name, shape in shapes.items()
    }
    tensors["text_decoder.cls.predictions.decoder.weight"] = tensors[
        "text_decoder.bert.embeddings.word_embeddings.weight"
    ]
    tensors["text_decoder.cls.predictions.decoder.bias"] = tensors["text_decoder.cls.predictions.bias"]
    # Tables that the authors' networks save.
    tensors["visual_encoder.layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    tensors["visual_encoder.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    tensors["tag_encoder.embeddings.position_ids"] = torch.arange(512)[None]
    paths = [folder / name for name in ("tag2text.pth", "vocab.txt", "tags.txt")]
    torch.save({"model": tensors, "epoch": 9}, paths[0])
    for path, lines in zip(paths[1:], (WORDS, TAGS), strict=True):
        path.write_text("\n".join(lines), encoding="utf-8")
    return [str(path) for path in paths]


def is_gain(name: str) -> bool:
    """True for the factors of a normalisation."""
    return re.search(r"(LayerNorm|norm\d?)\.weight$", name) is not None


def authors_name(name: str) -> str:
    """Name of a tensor in the authors' checkpoint, where a stage of Swin ends with its downsampling."""
    return re.sub(r"layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", name)
