"""Private operators of torch. Works with torch 2.15.0."""

from __future__ import annotations

import torch

# Selective checkpointing decides per operator, and `torch.nn.functional.scaled_dot_product_attention` dispatches to one
# of these. Public API would be an operator that represents all of them.
FUSED_ATTENTION = frozenset(
    {
        torch.ops.aten._scaled_dot_product_flash_attention.default,
        torch.ops.aten._scaled_dot_product_efficient_attention.default,
        torch.ops.aten._scaled_dot_product_cudnn_attention.default,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    }
)
