"""Names of all weights of each model as its authors publish them, for blocks 0 and 1, and converters to diffusers.

They follow from the modules in the authors' code: wan/modules/model.py (Wan-Video/Wan2.1),
ltx_video/models/transformers/transformer3d.py (Lightricks/LTX-Video), sat/dit_video_concat.py (THUDM/CogVideo) and
hyvideo/models/transformers/hunyuanvideo_1_5_transformer.py (Tencent-Hunyuan/HunyuanVideo-1.5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from diffusers.loaders.single_file_utils import (
    convert_ltx_transformer_checkpoint_to_diffusers,
    convert_wan_transformer_to_diffusers,
)


def _both(modules: Iterable[str]) -> set[str]:
    return {f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")}


def _blocks(names: Iterable[str], number: int = 2) -> set[str]:
    return {name.replace("#", str(k)) for name in names for k in range(number)}


WAN = (
    _both(["patch_embedding", "text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2"])
    | _both(["time_projection.1", "head.head"])
    | {"head.modulation"}
    | _blocks(
        _both(["blocks.#.self_attn.q", "blocks.#.self_attn.k", "blocks.#.self_attn.v", "blocks.#.self_attn.o"])
        | _both(["blocks.#.cross_attn.q", "blocks.#.cross_attn.k", "blocks.#.cross_attn.v", "blocks.#.cross_attn.o"])
        | _both(["blocks.#.norm3", "blocks.#.ffn.0", "blocks.#.ffn.2"])
        | {"blocks.#.modulation", "blocks.#.self_attn.norm_q.weight", "blocks.#.self_attn.norm_k.weight"}
        | {"blocks.#.cross_attn.norm_q.weight", "blocks.#.cross_attn.norm_k.weight"}
    )
)

LTX = (
    _both(["patchify_proj", "proj_out", "caption_projection.linear_1", "caption_projection.linear_2"])
    | _both(f"adaln_single.{name}" for name in ("emb.timestep_embedder.linear_1", "emb.timestep_embedder.linear_2"))
    | _both(["adaln_single.linear"])
    | {"scale_shift_table"}
    | _blocks(
        _both(f"transformer_blocks.#.attn1.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0"))
        | _both(f"transformer_blocks.#.attn2.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0"))
        | _both(["transformer_blocks.#.ff.net.0.proj", "transformer_blocks.#.ff.net.2"])
        | {f"transformer_blocks.#.{attn}.{n}_norm.weight" for attn in ("attn1", "attn2") for n in "qk"}
        | {"transformer_blocks.#.scale_shift_table"}
    )
)

COGVIDEOX = {
    f"model.diffusion_model.{name}"
    for name in _both(["time_embed.0", "time_embed.2", "mixins.patch_embed.proj", "mixins.patch_embed.text_proj"])
    | _both(f"mixins.final_layer.{name}" for name in ("adaLN_modulation.1", "norm_final", "linear"))
    | _both(["transformer.final_layernorm"])
    | _blocks(
        _both(f"transformer.layers.#.attention.{name}" for name in ("query_key_value", "dense"))
        | _both(f"transformer.layers.#.mlp.{name}" for name in ("dense_h_to_4h", "dense_4h_to_h"))
        | _both(f"transformer.layers.#.{name}" for name in ("input_layernorm", "post_attention_layernorm"))
        | _both(["mixins.adaln_layer.adaLN_modulations.#.1"])
        | _both(f"mixins.adaln_layer.{name}_layernorm_list.#" for name in ("query", "key"))
    )
}

_REFINER = "txt_in.individual_token_refiner.blocks.#"
HUNYUAN = (
    _both(["img_in.proj", "time_in.mlp.0", "time_in.mlp.2", "final_layer.linear", "final_layer.adaLN_modulation.1"])
    | _both(["txt_in.t_embedder.mlp.0", "txt_in.t_embedder.mlp.2", "txt_in.input_embedder"])
    | _both(["txt_in.c_embedder.linear_1", "txt_in.c_embedder.linear_2"])
    | _both(["byt5_in.layernorm", "byt5_in.fc1", "byt5_in.fc2", "byt5_in.fc3"])
    | _both(["vision_in.proj.0", "vision_in.proj.1", "vision_in.proj.3", "vision_in.proj.4"])
    | {"cond_type_embedding.weight"}
    | _blocks(
        _both(f"{_REFINER}.{name}" for name in ("norm1", "norm2", "self_attn_qkv", "self_attn_proj"))
        | _both(f"{_REFINER}.{name}" for name in ("mlp.fc1", "mlp.fc2", "adaLN_modulation.1")),
        number=1,
    )
    | _blocks(
        {
            f"double_blocks.#.{stream}_{name}"
            for stream in ("img", "txt")
            for name in _both(["mod.linear", "attn_q", "attn_k", "attn_v", "attn_proj", "mlp.fc1", "mlp.fc2"])
            | {"attn_q_norm.weight", "attn_k_norm.weight"}
        }
    )
)

# Linear layers of comfy/ldm/cogvideo/model.py and comfy/ldm/hunyuan_video/model.py in ComfyUI that a LoRA may change.
# ComfyUI also accepts HunyuanVideo's names of 1.0, with `_attn_qkv`, `_attn_proj` and `mlp.fc1` (comfy/lora.py).
COGVIDEOX_COMFYUI = _blocks(f"blocks.#.{name}" for name in ["q", "k", "v", "attn_out", "ff_proj", "ff_out"])
HUNYUAN_COMFYUI = _blocks(
    f"double_blocks.#.{stream}_{name}"
    for stream in ("img", "txt")
    for name in ["attn_qkv", "attn_proj", "mlp.fc1", "mlp.fc2"]
)

ORIGINAL = {"wan": WAN, "ltx_video": LTX, "cogvideox": COGVIDEOX, "hunyuan_video15": HUNYUAN}
COMFYUI = {
    "wan": {name.removesuffix(".weight") for name in WAN if name.endswith(".weight")},
    "ltx_video": {name.removesuffix(".weight") for name in LTX if name.endswith(".weight")},
    "cogvideox": COGVIDEOX_COMFYUI,
    "hunyuan_video15": HUNYUAN_COMFYUI,
}


Weights = Mapping[str, torch.Tensor]


def _renamed(weights: Weights, rules: Iterable[tuple[str, str]]) -> dict[str, torch.Tensor]:
    found = {}
    for name, value in weights.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    return found


def _split(weights: dict[str, torch.Tensor], fused: str, parts: Iterable[str]) -> None:
    """Replace each tensor whose name has `fused` by equal parts of its rows."""
    parts = list(parts)
    for name in [name for name in weights if fused in name]:
        for part, value in zip(parts, weights.pop(name).chunk(len(parts)), strict=True):
            weights[name.replace(fused, part)] = value


def cogvideox_to_diffusers(weights: Weights) -> dict[str, torch.Tensor]:
    """As diffusers' convert_cogvideox_to_diffusers.py describes the checkpoint."""
    rules = [
        (r"^model\.diffusion_model\.", ""),
        (r"^transformer\.final_layernorm", "norm_final"),
        (r"^transformer\.layers\.(\d+)\.", r"transformer_blocks.\1."),
        (r"^mixins\.adaln_layer\.adaLN_modulations\.(\d+)\.1\.", r"transformer_blocks.\1.norm.linear."),
        (r"^mixins\.adaln_layer\.query_layernorm_list\.(\d+)", r"transformer_blocks.\1.attn1.norm_q"),
        (r"^mixins\.adaln_layer\.key_layernorm_list\.(\d+)", r"transformer_blocks.\1.attn1.norm_k"),
        (r"^mixins\.final_layer\.norm_final", "norm_out.norm"),
        (r"^mixins\.final_layer\.adaLN_modulation\.1", "norm_out.linear"),
        (r"^mixins\.final_layer\.linear", "proj_out"),
        (r"^mixins\.patch_embed", "patch_embed"),
        (r"^time_embed\.0", "time_embedding.linear_1"),
        (r"^time_embed\.2", "time_embedding.linear_2"),
        (r"\battention\.dense", "attn1.to_out.0"),
        (r"\binput_layernorm", "norm1.norm"),
        (r"\bpost_attention_layernorm", "norm2.norm"),
        (r"\bmlp\.dense_h_to_4h", "ff.net.0.proj"),
        (r"\bmlp\.dense_4h_to_h", "ff.net.2"),
    ]
    found = _renamed(weights, rules)
    _split(found, "attention.query_key_value", ("attn1.to_q", "attn1.to_k", "attn1.to_v"))
    for name in [name for name in found if ".norm.linear." in name]:
        chunks = found.pop(name).chunk(12)  # shift, scale and gate: of attention and MLP, for video, then for text
        for number, start in ((1, 0), (2, 3)):
            rows = torch.cat([*chunks[start : start + 3], *chunks[start + 6 : start + 9]])
            found[name.replace(".norm.", f".norm{number}.")] = rows
    return found


def hunyuan_to_diffusers(weights: Weights) -> dict[str, torch.Tensor]:
    """As diffusers' convert_hunyuan_video1_5_to_diffusers.py describes the checkpoint."""
    rules = [
        (r"^time_in\.mlp\.0", "time_embed.timestep_embedder.linear_1"),
        (r"^time_in\.mlp\.2", "time_embed.timestep_embedder.linear_2"),
        (r"^txt_in\.t_embedder\.mlp\.0", "context_embedder.time_text_embed.timestep_embedder.linear_1"),
        (r"^txt_in\.t_embedder\.mlp\.2", "context_embedder.time_text_embed.timestep_embedder.linear_2"),
        (r"^txt_in\.c_embedder", "context_embedder.time_text_embed.text_embedder"),
        (r"^txt_in\.input_embedder", "context_embedder.proj_in"),
        (r"^txt_in\.individual_token_refiner\.blocks", "context_embedder.token_refiner.refiner_blocks"),
        (r"\bself_attn_proj", "attn.to_out.0"),
        (r"(?<=\d\.)adaLN_modulation\.1", "norm_out.linear"),
        (r"^byt5_in\.layernorm", "context_embedder_2.norm"),
        (r"^byt5_in\.fc", "context_embedder_2.linear_"),
        (r"^vision_in\.proj\.0", "image_embedder.norm_in"),
        (r"^vision_in\.proj\.1", "image_embedder.linear_1"),
        (r"^vision_in\.proj\.3", "image_embedder.linear_2"),
        (r"^vision_in\.proj\.4", "image_embedder.norm_out"),
        (r"^img_in", "x_embedder"),
        (r"^cond_type_embedding", "cond_type_embed"),
        (r"^double_blocks", "transformer_blocks"),
        (r"\bimg_mod", "norm1"),
        (r"\btxt_mod", "norm1_context"),
        (r"\bimg_attn_([qkv])(?=\.)", r"attn.to_\1"),
        (r"\btxt_attn_([qkv])(?=\.)", r"attn.add_\1_proj"),
        (r"\bimg_attn_([qk])_norm", r"attn.norm_\1"),
        (r"\btxt_attn_([qk])_norm", r"attn.norm_added_\1"),
        (r"\bimg_attn_proj", "attn.to_out.0"),
        (r"\btxt_attn_proj", "attn.to_add_out"),
        (r"\bimg_mlp", "ff"),
        (r"\btxt_mlp", "ff_context"),
        (r"(?<=\d\.)mlp", "ff"),
        (r"\bff(_context)?\.fc1", r"ff\1.net.0.proj"),
        (r"\bff(_context)?\.fc2", r"ff\1.net.2"),
        (r"^final_layer\.linear", "proj_out"),
    ]
    found = _renamed(weights, rules)
    _split(found, "self_attn_qkv", ("attn.to_q", "attn.to_k", "attn.to_v"))
    for leaf in ("weight", "bias"):
        shift, scale = found.pop(f"final_layer.adaLN_modulation.1.{leaf}").chunk(2)
        found[f"norm_out.linear.{leaf}"] = torch.cat([scale, shift])
    return found


CONVERT_BACK = {
    "wan": convert_wan_transformer_to_diffusers,
    "ltx_video": convert_ltx_transformer_checkpoint_to_diffusers,
    "cogvideox": cogvideox_to_diffusers,
    "hunyuan_video15": hunyuan_to_diffusers,
}
