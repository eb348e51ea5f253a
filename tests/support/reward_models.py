"""Reward models on Qwen2-VL at tiny size, with random weights, in the layouts in which the originals are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tests.support.tiny_transformers import byte_tokenizer

VIDEO_TEXT = """
Rate the clip three times.
Pictures: <|VQ_reward|>
END
Motion: <|MQ_reward|>
END
Textual prompt - {text_prompt}
Agreement: <|TA_reward|>
END
"""
IMAGE_TEXT, IMAGE_END = "\nRate the picture.\nTextual prompt - {text_prompt}\n\n", "\nMark: <|Reward|>\n\nEND\n"
VIDEO_TOKENS, IMAGE_TOKENS = ["<|VQ_reward|>", "<|MQ_reward|>", "<|TA_reward|>"], ["<|Reward|>"]


class Tiny(NamedTuple):
    """A tiny reward model on disk, and the network from which its checkpoint was written."""

    weights: list[str]
    network: Any
    head: torch.nn.Module


def config_of(num_tokens: int) -> dict[str, Any]:
    """Configuration in the flat form in which Qwen2-VL is published."""
    tokenizer = byte_tokenizer()
    return {
        "model_type": "qwen2_vl",
        "vocab_size": len(tokenizer) + num_tokens,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "initializer_range": 0.3,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "image_token_id": tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
        | {"initializer_range": 0.3},
    }


def write_base(folder: Path) -> Path:
    """Write the folder of the Qwen2-VL from which the models were trained: config and tokenizer, no weights."""
    folder.mkdir(parents=True)
    byte_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config_of(0)))
    return folder


def tiny_videoreward(folder: Path) -> Tiny:
    """A Qwen2-VL with a LoRA by peft; its checkpoint has peft's names, in the layout of transformers before 4.52."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    base = write_base(folder / "base")
    torch.manual_seed(0)
    network = Qwen2VLForConditionalGeneration(Qwen2VLConfig(**config_of(len(VIDEO_TOKENS)))).eval()
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=r".*language_model.*_proj", lora_dropout=0.05)
    wrapped = get_peft_model(network, lora).eval()
    head = torch.nn.Linear(32, 1, bias=False)
    tensors = {}
    for name, value in wrapped.state_dict().items():
        value.normal_(0, 0.2) if ".lora_B." in name else None  # a new LoRA does nothing
        old = name.replace("model.model.language_model.", "model.model.").replace(
            "model.model.visual.", "model.visual."
        )
        tensors[old] = value.clone()
    tensors["base_model.model.rm_head.weight"] = head.weight.detach()
    torch.save(tensors, folder / "model.pth")
    (folder / "text.py").write_text(f"DETAILED_PROMPT_WITH_SPECIAL_TOKEN = {VIDEO_TEXT!r}\n")
    return Tiny([str(folder / "model.pth"), str(base), str(folder / "text.py")], network.model, head)


def tiny_hpsv3(folder: Path) -> Tiny:
    """A Qwen2-VL with HPSv3's head; its checkpoint is flat, in the layout of transformers before 4.52."""
    from safetensors.torch import save_file
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    base = write_base(folder / "base")
    torch.manual_seed(1)
    network = Qwen2VLForConditionalGeneration(Qwen2VLConfig(**config_of(len(IMAGE_TOKENS)))).eval()
    sizes = [(32, 1024), (1024, 16), (16, 2)]
    first, second, third = (torch.nn.Linear(*size) for size in sizes)
    head = torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Identity(), second, torch.nn.ReLU(), third)
    old = {"model.language_model.": "model.", "model.visual.": "visual."}
    tensors = {}
    for name, value in network.state_dict().items():
        prefix = next((new for new in old if name.startswith(new)), "")
        tensors[old.get(prefix, "") + name.removeprefix(prefix)] = value.clone()
    tensors |= {f"rm_head.{name}": value.clone() for name, value in head.state_dict().items()}
    save_file(tensors, folder / "HPSv3.safetensors")
    (folder / "text.py").write_text(f"INSTRUCTION = {IMAGE_TEXT!r}\nprompt_with_special_token = {IMAGE_END!r}\n")
    return Tiny([str(folder / "HPSv3.safetensors"), str(base), str(folder / "text.py")], network.model, head)


@torch.no_grad()
def outputs(tiny: Tiny, frames_THWC: np.ndarray, text: str, *, grid_positions: bool = False) -> torch.Tensor:
    """Outputs of the head [K, O] by transformers' own parts, with the LoRA as a separate product.

    Args:
        frames_THWC: frames of the final size.
        text: what follows the frames, with the prompt.
        grid_positions: True gives the frames positions in time, height and width, which the originals do not.
    """
    from transformers import Qwen2VLVideoProcessor

    is_video = "<|VQ_reward|>" in text
    tokens, media = (VIDEO_TOKENS, "<|video_pad|>") if is_video else (IMAGE_TOKENS, "<|image_pad|>")
    prepare = Qwen2VLVideoProcessor(do_resize=False, do_sample_frames=False, cap_pixels_per_frame=False)
    found = prepare(torch.from_numpy(frames_THWC).permute(0, 3, 1, 2), return_tensors="pt")
    grid = found["video_grid_thw"]
    places = media * int(grid.prod() // 4)
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(tokens, special_tokens=True)
    ids = tokenizer(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"<|vision_start|>{places}<|vision_end|>{text}<|im_end|>\n<|im_start|>assistant\n",
        return_tensors="pt",
    )["input_ids"]
    seen = tiny.network.get_video_features(found["pixel_values_videos"], grid).pooler_output[0]
    states = tiny.network.get_input_embeddings()(ids)
    kinds = (ids == tokenizer.convert_tokens_to_ids(media)).int() * 2
    states[kinds == 2] = seen
    positions = torch.arange(ids.shape[1]).expand(3, 1, -1)
    if grid_positions:
        positions, _ = tiny.network.get_rope_index(ids, mm_token_type_ids=kinds, video_grid_thw=grid)
    last = tiny.network.language_model(inputs_embeds=states, position_ids=positions).last_hidden_state[0]
    wanted = torch.tensor(tokenizer.convert_tokens_to_ids(tokens))
    return tiny.head(torch.stack([last[ids[0] == token][0] for token in wanted]))
