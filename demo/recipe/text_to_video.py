"""Trains the tiny Wan denoiser and its text encoder on latents of the demo world, and saves them as a pipeline.

Legend: B batch, C latent channel, F latent frame, H latent height, W latent width; L text token, D text channel.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from demo.recipe import tokenizer as bpe
from demo.recipe.common import SEED, WEIGHTS, Average, draw_clip, learning_rate, log, misdescribe, to_tensor
from demo.recipe.vae import LATENT_CHANNELS
from videodpo.config import parse_config
from videodpo.config.loading import read_config
from videodpo.demo_world.captions import Scene, random_scene
from videodpo.models.base import collate
from videodpo.models.wan import WanModel
from videodpo.scorers.base import Clip
from videodpo.scorers.caption_accuracy import CaptionAccuracy

TEXT_DIM = 64
TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "text_dim": TEXT_DIM,
    "freq_dim": 64,
    "ffn_dim": 384,
    "num_layers": 4,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 32,
}
NUM_CLIPS, STEPS, BATCH, PEAK_RATE = 12_000, 2_800, 64, 2e-3
# As on the web, many clips are poor and some captions are wrong. The model learns these faults, so that an alignment to
# preferences has something to correct.
DEFECT_SHARE, WRONG_CAPTION_SHARE, EMPTY_CAPTION_SHARE = 0.4, 0.15, 0.1


def train(out: Path = WEIGHTS / "text_to_video", steps: int = STEPS, num_clips: int = NUM_CLIPS) -> None:
    """Train from scratch on latents from the VAE in `out`, and make `out` a folder that `WanPipeline` loads."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED + 10)
    vae = AutoencoderKLWan.from_pretrained(out / "vae").eval()
    latents_NCFHW, scenes = encode_clips(vae, num_clips, rng)
    tokenizer = bpe.build()
    text_encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT_DIM,
            d_kv=16,
            d_ff=160,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            pad_token_id=bpe.PAD,
            eos_token_id=bpe.EOS,
        )
    )
    denoiser = WanTransformer3DModel(**TRANSFORMER)
    both = torch.nn.ModuleList([text_encoder, denoiser]).train()
    average = Average(both, decay=0.999)
    optimizer = torch.optim.AdamW(both.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    start = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, PEAK_RATE)
        rows = [rng.randrange(num_clips) for _ in range(BATCH)]
        text_BLD = embed(tokenizer, text_encoder, [_caption(scenes[row], rng) for row in rows])
        clean_BCFHW = latents_NCFHW[rows]
        noise_BCFHW = torch.randn_like(clean_BCFHW)
        level_B = torch.sigmoid(torch.randn(BATCH))
        level = level_B.view(-1, 1, 1, 1, 1)
        prediction = denoiser((1 - level) * clean_BCFHW + level * noise_BCFHW, level_B * 1000, text_BLD).sample
        loss = F.mse_loss(prediction, noise_BCFHW - clean_BCFHW)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        average.update()
        if step % 100 == 0:
            log.info("denoiser %d/%d loss %.4f, %.0f s", step, steps, loss.item(), time.monotonic() - start)
    average.apply()
    pipe = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.eval().half(),  # half precision on disk keeps the repository small
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=2.0),
        transformer=denoiser.eval().half(),
    )
    for part in ("tokenizer", "text_encoder", "scheduler", "transformer"):  # the VAE is still training
        getattr(pipe, part).save_pretrained(out / part)
    pipe.save_config(out)


def _caption(scene: Scene, rng: random.Random) -> str:
    draw = rng.random()
    if draw < EMPTY_CAPTION_SHARE:
        return ""
    if draw < EMPTY_CAPTION_SHARE + WRONG_CAPTION_SHARE:
        scene = misdescribe(scene, rng)
    return scene.caption


def embed(tokenizer, text_encoder, captions: list[str]) -> torch.Tensor:
    """Prompt embeddings as WanPipeline passes them to the denoiser: encoder states, zeros after the end; [B, L, D]."""
    tokens = tokenizer(captions, padding="max_length", max_length=bpe.CONTEXT_LENGTH, return_tensors="pt")
    states_BLD = text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    return states_BLD * tokens.attention_mask.unsqueeze(-1)


@torch.no_grad()
def encode_clips(vae: AutoencoderKLWan, num_clips: int, rng: random.Random) -> tuple[torch.Tensor, list[Scene]]:
    """Normalised latents [N, C, F, H, W] of new clips, and their scenes."""
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    latents, scenes = [], []
    for first in range(0, num_clips, 50):
        drawn = [draw_clip(rng, defect_share=DEFECT_SHARE) for _ in range(min(50, num_clips - first))]
        latents.append((vae.encode(to_tensor([clip for clip, _ in drawn])).latent_dist.mean - mean) / std)
        scenes += [scene for _, scene in drawn]
        if first % 2000 == 0:
            log.info("encoded %d of %d clips", first, num_clips)
    return torch.cat(latents), scenes


def figures(folder: Path = WEIGHTS / "text_to_video", num_clips: int = 256) -> dict[str, float]:
    """Measure with the judge how well the saved model follows captions when sampled as in `presets/demo.yaml`.

    Args:
        folder: folder of the pipeline.
        num_clips: half of them have captions like those in training, half have unseen triples of shape, color and
            motion.

    Returns:
        For both halves, the share of right attributes, and the share of clips in which every attribute is right.
    """
    config = parse_config(read_config(WEIGHTS.parent / "config.yaml", [WEIGHTS.parent / "presets" / "demo.yaml"]))
    sampling = config.generate.sampling
    model = WanModel(config.model.model_copy(update={"weights": str(folder)}), "cpu")
    judge = CaptionAccuracy(CaptionAccuracy.Options(weights=str(WEIGHTS / "judge" / "judge.safetensors")), "cpu")
    rng = random.Random(SEED + 11)
    result = {}
    for name, unseen in (("seen", False), ("unseen", True)):
        captions: list[str] = []
        while len(captions) < num_clips // 2:
            scene = random_scene(rng)
            if scene.unseen == unseen:
                captions.append(scene.caption)
        shares: list[float] = []
        for first in range(0, len(captions), sampling.batch_size):
            batch = captions[first : first + sampling.batch_size]
            text = collate([model.encode_prompt(caption) for caption in batch])
            clips = model.decode(model.sample(text, [rng.randrange(2**32) for _ in batch], sampling))
            shares += [judge.score(Clip(clip, sampling.fps, text)) for clip, text in zip(clips, batch, strict=True)]
        result[f"{name}_attributes_right"] = sum(shares) / len(shares)
        result[f"{name}_captions_right"] = sum(share == 1 for share in shares) / len(shares)
    return result


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train()
    print(json.dumps(figures()))
