"""Names of each family's denoiser in its authors' code and in ComfyUI, as data, and conversion to them.

A layout maps a name of the target to the diffusers module that it is made of. `*` is the number of the block. A tuple
lists modules whose rows are concatenated, and `[1/2]` is the second half of a module's rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from videodpo.config.errors import InputError
from videodpo.tools.adapter.lora import LoraLayer

if TYPE_CHECKING:
    import torch

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_LEAVES = (".weight", ".bias")
Names = Mapping[str, str | tuple[str, ...]]


class Rows(NamedTuple):
    """Part `part` of `num_parts` equal parts of a module's output channels."""

    module: str
    part: int = 0
    num_parts: int = 1

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return these rows of one of the module's tensors."""
        return tensor.chunk(self.num_parts)[self.part]


class Layout:
    """Names of a denoiser in another code."""

    def __init__(self, names: Names, prefix: str = "") -> None:
        """Build a layout.

        Args:
            names: target name to diffusers module, as described above.
            prefix: prefix of every name in a file of all weights.
        """
        self.prefix = prefix
        self._rows = {
            target: tuple(_parse(text) for text in ((source,) if isinstance(source, str) else source))
            for target, source in names.items()
        }
        self._targets = {one.module: target for target, rows in self._rows.items() for one in rows}

    def locate(self, module: str) -> tuple[str, tuple[Rows, ...]]:
        """Return the target that holds a diffusers module, and all rows of that target.

        Raises:
            InputError: the layout does not know the module.
        """
        number = _NUMBER.search(f"{module}.")
        block = number[0] if number else ""
        pattern = _NUMBER.sub("*", f"{module}.", count=1).removesuffix(".")
        target = self._targets.get(pattern)
        if target is None:
            raise InputError(f"layer {module}: this format has no name for it; export as diffusers or merged")
        rows = tuple(one._replace(module=one.module.replace("*", block)) for one in self._rows[target])
        return target.replace("*", block), rows

    def convert_weights(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Rename and regroup all weights of a denoiser.

        Args:
            weights: the network's state dict in diffusers.

        Raises:
            InputError: the layout does not know a weight.
        """
        import torch

        found: dict[str, torch.Tensor] = {}
        for name in weights:
            leaf = next((leaf for leaf in _LEAVES if name.endswith(leaf)), "")
            target, rows = self.locate(name.removesuffix(leaf))
            key = f"{self.prefix}{target}{leaf}"
            if key in found:
                continue
            parts = [one.of(weights[one.module + leaf]) for one in rows]
            found[key] = torch.cat(parts) if len(parts) > 1 else parts[0]
        return found

    def convert_lora(self, layers: Mapping[str, LoraLayer]) -> dict[str, LoraLayer]:
        """Rename and regroup a LoRA; a layer that combines several modules gets the sum of their ranks.

        Raises:
            InputError: the layout does not know a layer, or the adapter is a DoRA.
        """
        found: dict[str, LoraLayer] = {}
        for module, layer in layers.items():
            if layer.magnitude is not None:
                raise InputError(
                    "train.lora.dora: true; no tool reads a DoRA of this model in this format; export as diffusers or "
                    "merged"
                )
            target, rows = self.locate(module)
            if target not in found:
                found[target] = layer if rows == (Rows(module),) else _combined(rows, layers)
        return found


def _parse(text: str) -> Rows:
    match = re.fullmatch(r"([^\[]+)(?:\[(\d)/(\d)\])?", text)
    assert match is not None
    return Rows(match[1], int(match[2]), int(match[3])) if match[2] else Rows(match[1])


def _combined(rows: tuple[Rows, ...], layers: Mapping[str, LoraLayer]) -> LoraLayer:
    """Return the LoRA of a layer whose outputs are those of several modules, some of which may have no LoRA.

    Its up matrix is block-diagonal: each module's rows use that module's ranks only. All parts have the same size.
    """
    import torch

    present = [one for one in rows if one.module in layers]
    modules = list(dict.fromkeys(one.module for one in present))
    down = torch.cat([layers[module].down for module in modules])
    ranks = [len(layers[module].down) for module in modules]
    starts = {module: sum(ranks[:k]) for k, module in enumerate(modules)}
    scale = layers[modules[0]].scale
    assert all(layers[module].scale == scale for module in modules)
    (size,) = {len(one.of(layers[one.module].up)) for one in present}
    up = down.new_zeros(size * len(rows), len(down))
    for k, one in enumerate(rows):
        if one in present:
            own, start = one.of(layers[one.module].up), starts[one.module]
            up[k * size : (k + 1) * size, start : start + own.shape[1]] = own
    return LoraLayer(down, up, scale)


def _each(prefix: str, ours: str, names: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}.{theirs}": f"{ours}.{name}" for theirs, name in names.items()}


def _same(names: str) -> dict[str, str]:
    return {name: name for name in names.split()}


_MLP = {"0": "linear_1", "2": "linear_2"}
_WAN_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}

# wan/modules/model.py of Wan-Video/Wan2.1 and Wan2.2
_WAN: Names = {
    "patch_embedding": "patch_embedding",
    **_each("text_embedding", "condition_embedder.text_embedder", _MLP),
    **_each("time_embedding", "condition_embedder.time_embedder", _MLP),
    "time_projection.1": "condition_embedder.time_proj",
    "blocks.*.modulation": "blocks.*.scale_shift_table",
    **_each("blocks.*.self_attn", "blocks.*.attn1", _WAN_ATTENTION),
    **_each("blocks.*.cross_attn", "blocks.*.attn2", _WAN_ATTENTION),
    "blocks.*.norm3": "blocks.*.norm2",
    "blocks.*.ffn.0": "blocks.*.ffn.net.0.proj",
    "blocks.*.ffn.2": "blocks.*.ffn.net.2",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}

_LTX_ATTENTION = _same("to_q to_k to_v to_out.0") | {"q_norm": "norm_q", "k_norm": "norm_k"}

# ltx_video/models/transformers/transformer3d.py of Lightricks/LTX-Video
_LTX: Names = {
    "patchify_proj": "proj_in",
    **_each(
        "adaln_single", "time_embed", _same("emb.timestep_embedder.linear_1 emb.timestep_embedder.linear_2 linear")
    ),
    **_same("caption_projection.linear_1 caption_projection.linear_2 scale_shift_table proj_out"),
    "transformer_blocks.*.scale_shift_table": "transformer_blocks.*.scale_shift_table",
    **_each("transformer_blocks.*.attn1", "transformer_blocks.*.attn1", _LTX_ATTENTION),
    **_each("transformer_blocks.*.attn2", "transformer_blocks.*.attn2", _LTX_ATTENTION),
    **_each("transformer_blocks.*.ff", "transformer_blocks.*.ff", _same("net.0.proj net.2")),
}

_COGVIDEOX_BLOCK = {
    "attention.dense": "attn1.to_out.0",
    "mlp.dense_h_to_4h": "ff.net.0.proj",
    "mlp.dense_4h_to_h": "ff.net.2",
    "input_layernorm": "norm1.norm",
    "post_attention_layernorm": "norm2.norm",
}
_ADALN = "transformer_blocks.*.{}.linear[{}/2]"

# sat/dit_video_concat.py of THUDM/CogVideo
_COGVIDEOX: Names = {
    **_each("mixins.patch_embed", "patch_embed", _same("proj text_proj")),
    **_each("time_embed", "time_embedding", _MLP),
    "transformer.layers.*.attention.query_key_value": tuple(
        f"transformer_blocks.*.attn1.{name}" for name in ("to_q", "to_k", "to_v")
    ),
    **_each("transformer.layers.*", "transformer_blocks.*", _COGVIDEOX_BLOCK),
    "mixins.adaln_layer.adaLN_modulations.*.1": tuple(
        _ADALN.format(norm, half) for half in (0, 1) for norm in ("norm1", "norm2")
    ),
    "mixins.adaln_layer.query_layernorm_list.*": "transformer_blocks.*.attn1.norm_q",
    "mixins.adaln_layer.key_layernorm_list.*": "transformer_blocks.*.attn1.norm_k",
    "transformer.final_layernorm": "norm_final",
    "mixins.final_layer.norm_final": "norm_out.norm",
    "mixins.final_layer.adaLN_modulation.1": "norm_out.linear",
    "mixins.final_layer.linear": "proj_out",
}

# comfy/ldm/cogvideo/model.py of ComfyUI: the linear layers
_COGVIDEOX_COMFYUI: Names = {
    **_same("patch_embed.proj patch_embed.text_proj norm_out.linear proj_out"),
    "time_embedding_linear_1": "time_embedding.linear_1",
    "time_embedding_linear_2": "time_embedding.linear_2",
    **_each("blocks.*", "transformer_blocks.*", _same("norm1.linear norm2.linear")),
    **_each("blocks.*", "transformer_blocks.*.attn1", {"q": "to_q", "k": "to_k", "v": "to_v", "attn_out": "to_out.0"}),
    **_each("blocks.*", "transformer_blocks.*.ff", {"ff_proj": "net.0.proj", "ff_out": "net.2"}),
}

_COMFYUI_MLP = {"in_layer": "linear_1", "out_layer": "linear_2"}
_TEXT_EMBEDDER = "context_embedder.time_text_embed"
_REFINER = "context_embedder.token_refiner.refiner_blocks.*"
_HUNYUAN_QKV = {
    "img_attn": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_HUNYUAN_BLOCK = {
    "img_mod.linear": "norm1.linear",
    "img_attn_q_norm": "attn.norm_q",
    "img_attn_k_norm": "attn.norm_k",
    "img_attn_proj": "attn.to_out.0",
    "img_mlp.fc1": "ff.net.0.proj",
    "img_mlp.fc2": "ff.net.2",
    "txt_mod.linear": "norm1_context.linear",
    "txt_attn_q_norm": "attn.norm_added_q",
    "txt_attn_k_norm": "attn.norm_added_k",
    "txt_attn_proj": "attn.to_add_out",
    "txt_mlp.fc1": "ff_context.net.0.proj",
    "txt_mlp.fc2": "ff_context.net.2",
}
_HUNYUAN_REFINER = {
    **_same("norm1 norm2"),
    "self_attn_proj": "attn.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm_out.linear",
}

# What the authors' code and ComfyUI share
_HUNYUAN_COMMON: Names = {
    "img_in.proj": "x_embedder.proj",
    "txt_in.input_embedder": "context_embedder.proj_in",
    "txt_in.individual_token_refiner.blocks.*.self_attn_qkv": tuple(
        f"{_REFINER}.attn.{name}" for name in ("to_q", "to_k", "to_v")
    ),
    **_each("txt_in.individual_token_refiner.blocks.*", _REFINER, _HUNYUAN_REFINER),
    "byt5_in.layernorm": "context_embedder_2.norm",
    **{f"byt5_in.fc{k}": f"context_embedder_2.linear_{k}" for k in (1, 2, 3)},
    **_each("vision_in.proj", "image_embedder", {"0": "norm_in", "1": "linear_1", "3": "linear_2", "4": "norm_out"}),
    "cond_type_embedding": "cond_type_embed",
    **_each("double_blocks.*", "transformer_blocks.*", _HUNYUAN_BLOCK),
    "final_layer.adaLN_modulation.1": ("norm_out.linear[1/2]", "norm_out.linear[0/2]"),
    "final_layer.linear": "proj_out",
}

# hyvideo/models/transformers/hunyuanvideo_1_5_transformer.py of Tencent-Hunyuan/HunyuanVideo-1.5
_HUNYUAN: Names = {
    **_HUNYUAN_COMMON,
    **_each("time_in.mlp", "time_embed.timestep_embedder", _MLP),
    **_each("txt_in.t_embedder.mlp", f"{_TEXT_EMBEDDER}.timestep_embedder", _MLP),
    **_each("txt_in.c_embedder", f"{_TEXT_EMBEDDER}.text_embedder", _same("linear_1 linear_2")),
    **{
        f"double_blocks.*.{stream}_{letter}": f"transformer_blocks.*.{name}"
        for stream, names in _HUNYUAN_QKV.items()
        for letter, name in zip("qkv", names, strict=True)
    },
}

# comfy/lora.py and comfy/ldm/hunyuan_video/model.py of ComfyUI, where query, key and value are one layer
_HUNYUAN_COMFYUI: Names = {
    **_HUNYUAN_COMMON,
    **_each("time_in", "time_embed.timestep_embedder", _COMFYUI_MLP),
    **_each("txt_in.t_embedder", f"{_TEXT_EMBEDDER}.timestep_embedder", _COMFYUI_MLP),
    **_each("txt_in.c_embedder", f"{_TEXT_EMBEDDER}.text_embedder", _COMFYUI_MLP),
    **{
        f"double_blocks.*.{stream}_qkv": tuple(f"transformer_blocks.*.{name}" for name in names)
        for stream, names in _HUNYUAN_QKV.items()
    },
}

ORIGINAL = {
    "wan": Layout(_WAN),
    "ltx_video": Layout(_LTX),
    "cogvideox": Layout(_COGVIDEOX, prefix="model.diffusion_model."),
    "hunyuan_video15": Layout(_HUNYUAN),
}
COMFYUI = {
    "wan": Layout(_WAN),
    "ltx_video": Layout(_LTX),
    "cogvideox": Layout(_COGVIDEOX_COMFYUI),
    "hunyuan_video15": Layout(_HUNYUAN_COMFYUI),
}
