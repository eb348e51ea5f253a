"""Models, processors and tokenizers of transformers' real classes at tiny size, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def clip_tokenizer() -> Any:
    """CLIP's tokenizer class with letters and one merge."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz.,"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>", BEGIN, END]
    return CLIPTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)},
        merges=[("r", "e"), ("re", "d</w>")],
        bos_token=BEGIN,
        eos_token=END,
        unk_token=END,
        pad_token=END,
    )


def text_settings() -> dict[str, Any]:
    """Settings of a text tower for `clip_tokenizer`."""
    tokenizer = clip_tokenizer()
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def tiny_clip(folder: Path) -> Path:
    """A CLIPModel with its processor in the same folder."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=text_settings() | {"hidden_act": "gelu"},
        vision_config=vision | {"image_size": 224, "patch_size": 32, "hidden_act": "gelu"},
        projection_dim=16,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessor(), clip_tokenizer()).save_pretrained(folder)
    return folder


def tiny_xclip(folder: Path) -> Path:
    """An XCLIPModel for 8 frames with its processor in the same folder, in the published layout."""
    import json

    import torch
    from transformers import XCLIPConfig, XCLIPModel

    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    mit = {"mit_hidden_size": 16, "mit_intermediate_size": 32, "mit_num_hidden_layers": 1, "mit_num_attention_heads": 2}
    config = XCLIPConfig(
        text_config=text_settings(),
        vision_config=vision | mit | {"image_size": 32, "patch_size": 8, "num_frames": 8},
        projection_dim=16,
        prompt_layers=1,
        prompt_num_attention_heads=2,
        prompt_alpha=1.0,
    )
    torch.manual_seed(0)
    XCLIPModel(config).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    prepare = {
        "feature_extractor_type": "VideoMAEFeatureExtractor",
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        "resample": 2,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        **dict.fromkeys(("do_center_crop", "do_normalize", "do_rescale", "do_resize"), True),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(prepare))
    return folder


# Qwen's chat template, without the initial system message.
CHAT = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{% for part in message['content'] %}{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>\
{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}\
{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
SPECIAL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
]


def byte_tokenizer() -> Any:
    """Qwen's tokenizer class; its tokens are the bytes, `yes` and `no`."""
    from tokenizers import pre_tokenizers
    from transformers import Qwen2Tokenizer

    merges = [("y", "e"), ("ye", "s"), ("n", "o")]
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    tokenizer = Qwen2Tokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.chat_template = CHAT
    return tokenizer


def tiny_judge(folder: Path) -> Path:
    """A Qwen2.5-VL with its processor in the same folder."""
    import torch
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = byte_tokenizer()
    token = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        "bos_token_id": token("<|endoftext|>"),
        "eos_token_id": token("<|im_end|>"),
        "pad_token_id": token("<|endoftext|>"),
    }
    vision = {"hidden_size": 32, "intermediate_size": 64, "depth": 2, "num_heads": 2, "out_hidden_size": 32}
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision | {"fullatt_block_indexes": [1], "window_size": 56},
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    size = {"shortest_edge": 28 * 28, "longest_edge": 84 * 84}
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=size),
        chat_template=CHAT,
    ).save_pretrained(folder)
    return folder
