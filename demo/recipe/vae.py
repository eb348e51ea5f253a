"""Trains the tiny AutoencoderKLWan: 9 x 32 x 32 clips to latents (8, 3, 8, 8) and back."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from demo.recipe.common import SEED, WEIGHTS, Average, draw_clip, learning_rate, log, to_tensor

LATENT_CHANNELS = 8
CONFIG = {
    "base_dim": 8,
    "z_dim": LATENT_CHANNELS,
    "dim_mult": [1, 2, 4],
    "num_res_blocks": 1,
    "attn_scales": [],
    "temperal_downsample": [True, True],
    "scale_factor_spatial": 4,
    "scale_factor_temporal": 4,
}
# (frames, clips per step, steps): stills teach colours and outlines cheaply, then motion is added.
PHASES = ((1, 16, 1200), (5, 8, 1500), (9, 8, 2600))
POLISH_STEPS = 2000  # only the decoder, on clips of full length
PEAK_RATE, POLISH_RATE = 2e-3, 1e-3
DEFECT_SHARE = 0.45
KL_WEIGHT = 1e-6
POLISH_NOISE = 0.05  # in standard deviations of the latents: sampled latents are never exact


def reconstruction_loss(pred_BCTHW: torch.Tensor, target_BCTHW: torch.Tensor) -> torch.Tensor:
    """L1 loss, with pixels unlike the background weighted up to 7 times: otherwise objects are never drawn."""
    ground = target_BCTHW.median(dim=-1, keepdim=True).values
    off = (target_BCTHW - ground).abs().amax(dim=1, keepdim=True)
    weight = 1 + 6 * (4 * off).clamp(max=1)
    return (weight * (pred_BCTHW - target_BCTHW).abs()).mean()


OUT = WEIGHTS / "text_to_video" / "vae"


def train(out: Path = OUT, phases=PHASES) -> None:
    """Train encoder and decoder from scratch; save them in diffusers' format, with the latent statistics."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    vae = AutoencoderKLWan(**CONFIG, latents_mean=[0.0] * LATENT_CHANNELS, latents_std=[1.0] * LATENT_CHANNELS)
    _lay_out_for_speed(vae)
    vae.train()
    average = Average(vae)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    num_steps, step, start = sum(phase[2] for phase in phases), 0, time.monotonic()
    for frames, batch, steps in phases:
        for _ in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, num_steps, PEAK_RATE)
            clips = to_tensor([draw_clip(rng, defect_share=DEFECT_SHARE)[0] for _ in range(batch)])
            first = rng.randrange(clips.shape[2] - frames + 1)
            clips = clips[:, :, first : first + frames].contiguous(memory_format=torch.channels_last_3d)
            posterior = vae.encode(clips).latent_dist
            decoded = vae.decode(posterior.sample()).sample
            loss = reconstruction_loss(decoded, clips) + KL_WEIGHT * posterior.kl().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            average.update()
            if step % 100 == 0:
                seconds = time.monotonic() - start
                log.info("vae %d/%d frames %d loss %.4f, %.0f s", step, num_steps, frames, loss.item(), seconds)
            step += 1
    average.apply()
    _save(vae, out)


def polish(out: Path = OUT, steps: int = POLISH_STEPS) -> None:
    """Continue training the decoder with the encoder frozen: latents do not change, and clips get sharper."""
    torch.manual_seed(SEED + 5)
    rng = random.Random(SEED + 5)
    vae = AutoencoderKLWan.from_pretrained(out)
    _lay_out_for_speed(vae)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    trained = torch.nn.ModuleList([vae.decoder, vae.post_quant_conv]).train()
    average = Average(trained)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=POLISH_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    start = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, POLISH_RATE)
        clips = to_tensor([draw_clip(rng, defect_share=DEFECT_SHARE)[0] for _ in range(8)])
        clips = clips.contiguous(memory_format=torch.channels_last_3d)
        with torch.no_grad():
            latents = vae.encode(clips).latent_dist.mode()
            latents = latents + POLISH_NOISE * latents.std() * torch.randn_like(latents)
        loss = reconstruction_loss(vae.decode(latents).sample, clips)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        average.update()
        if step % 100 == 0:
            log.info("decoder %d/%d loss %.4f, %.0f s", step, steps, loss.item(), time.monotonic() - start)
    average.apply()
    vae.save_pretrained(out)
    config = out / "config.json"  # diffusers records the folder from which it loaded the model
    settings = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
    config.write_text(json.dumps(settings, indent=2) + "\n")


def _save(vae: AutoencoderKLWan, out: Path) -> None:
    vae.eval()
    mean, std = latent_statistics(vae)
    vae.register_to_config(latents_mean=mean, latents_std=std)
    vae.save_pretrained(out)


def _lay_out_for_speed(vae: AutoencoderKLWan) -> None:
    """Use channels_last_3d kernels, which are 1.3 to 1.7 times faster on a CPU."""
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)


@torch.no_grad()
def latent_statistics(vae: AutoencoderKLWan, num_clips: int = 512) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each latent channel over new clips."""
    rng = random.Random(SEED + 1)
    latents = torch.cat(
        [
            vae.encode(to_tensor([draw_clip(rng, defect_share=DEFECT_SHARE)[0] for _ in range(32)])).latent_dist.mean
            for _ in range(num_clips // 32)
        ]
    )
    std, mean = torch.std_mean(latents, dim=(0, 2, 3, 4))
    return [round(v, 5) for v in mean.tolist()], [round(v, 5) for v in std.tolist()]


@torch.no_grad()
def figures(vae: AutoencoderKLWan, num_clips: int = 256) -> dict[str, float]:
    """Errors on unseen clips: mean absolute error of all pixels and of object pixels (scale 0 to 255), and PSNR."""
    rng = random.Random(SEED + 2)
    errors, object_errors, squares = [], [], []
    for _ in range(num_clips // 32):
        clips = to_tensor([draw_clip(rng, defect_share=0.0)[0] for _ in range(32)])
        decoded = vae.decode(vae.encode(clips).latent_dist.mean).sample.clamp(-1, 1)
        off = (clips - clips.median(dim=-1, keepdim=True).values).abs().amax(dim=1, keepdim=True) > 0.2
        difference = (decoded - clips).abs() * 127.5
        errors.append(difference.mean().item())
        object_errors.append(difference[off.expand_as(difference)].mean().item())
        squares.append(difference.square().mean().item())
    psnr = 10 * np.log10(255**2 / np.mean(squares))
    return {
        "vae_error": float(np.mean(errors)),
        "vae_object_error": float(np.mean(object_errors)),
        "vae_psnr_db": float(psnr),
    }


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train()
    polish()
    print(json.dumps(figures(AutoencoderKLWan.from_pretrained(OUT).eval())))
