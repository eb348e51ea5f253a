"""Names of all weights of each model as its authors publish them, for blocks 0 and 1.

They follow from the modules in the authors' code: wan/modules/model.py (Wan-Video/Wan2.1),
ltx_video/models/transformers/transformer3d.py (Lightricks/LTX-Video), sat/dit_video_concat.py (THUDM/CogVideo) and
hyvideo/models/transformers/hunyuanvideo_1_5_transformer.py (Tencent-Hunyuan/HunyuanVideo-1.5).
"""

from __future__ import annotations

from collections.abc import Iterable


def _both(modules: Iterable[str]) -> set[str]:
    return {f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")}


def _blocks(names: Iterable[str], number: int = 2) -> set[str]:
    return {name.replace("N", str(k)) for k in range(number) for name in names}


WAN = (
    _both(["patch_embedding", "text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2"])
    | _both(["time_projection.1", "head.head"])
    | {"head.modulation"}
    | _blocks(
        _both(["blocks.N.self_attn.q", "blocks.N.self_attn.k", "blocks.N.self_attn.v", "blocks.N.self_attn.o"])
        | _both(["blocks.N.cross_attn.q", "blocks.N.cross_attn.k", "blocks.N.cross_attn.v", "blocks.N.cross_attn.o"])
        | _both(["blocks.N.norm3", "blocks.N.ffn.0", "blocks.N.ffn.2"])
        | {"blocks.N.modulation", "blocks.N.self_attn.norm_q.weight", "blocks.N.self_attn.norm_k.weight"}
        | {"blocks.N.cross_attn.norm_q.weight", "blocks.N.cross_attn.norm_k.weight"}
    )
)

LTX = (
    _both(["patchify_proj", "proj_out", "caption_projection.linear_1", "caption_projection.linear_2"])
    | _both(f"adaln_single.{name}" for name in ("emb.timestep_embedder.linear_1", "emb.timestep_embedder.linear_2"))
    | _both(["adaln_single.linear"])
    | {"scale_shift_table"}
    | _blocks(
        _both(f"transformer_blocks.N.attn1.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0"))
        | _both(f"transformer_blocks.N.attn2.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0"))
        | _both(["transformer_blocks.N.ff.net.0.proj", "transformer_blocks.N.ff.net.2"])
        | {f"transformer_blocks.N.{attn}.{n}_norm.weight" for attn in ("attn1", "attn2") for n in "qk"}
        | {"transformer_blocks.N.scale_shift_table"}
    )
)

COGVIDEOX = {
    f"model.diffusion_model.{name}"
    for name in _both(["time_embed.0", "time_embed.2", "mixins.patch_embed.proj", "mixins.patch_embed.text_proj"])
    | _both(f"mixins.final_layer.{name}" for name in ("adaLN_modulation.1", "norm_final", "linear"))
    | _both(["transformer.final_layernorm"])
    | _blocks(
        _both(f"transformer.layers.N.attention.{name}" for name in ("query_key_value", "dense"))
        | _both(f"transformer.layers.N.mlp.{name}" for name in ("dense_h_to_4h", "dense_4h_to_h"))
        | _both(f"transformer.layers.N.{name}" for name in ("input_layernorm", "post_attention_layernorm"))
        | _both(["mixins.adaln_layer.adaLN_modulations.N.1"])
        | _both(f"mixins.adaln_layer.{name}_layernorm_list.N" for name in ("query", "key"))
    )
}

_REFINER = "txt_in.individual_token_refiner.blocks.N"
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
            f"double_blocks.N.{stream}_{name}"
            for stream in ("img", "txt")
            for name in _both(["mod.linear", "attn_q", "attn_k", "attn_v", "attn_proj", "mlp.fc1", "mlp.fc2"])
            | {"attn_q_norm.weight", "attn_k_norm.weight"}
        }
    )
)

# Linear layers of comfy/ldm/cogvideo/model.py and comfy/ldm/hunyuan_video/model.py in ComfyUI that a LoRA may change.
# ComfyUI also accepts HunyuanVideo's names of 1.0, with `_attn_qkv`, `_attn_proj` and `mlp.fc1` (comfy/lora.py).
COGVIDEOX_COMFYUI = _blocks(f"blocks.N.{name}" for name in ["q", "k", "v", "attn_out", "ff_proj", "ff_out"])
HUNYUAN_COMFYUI = _blocks(
    f"double_blocks.N.{stream}_{name}"
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
