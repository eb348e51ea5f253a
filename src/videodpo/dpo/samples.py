"""Sample clips of the policy during training, and write them side by side into one video per sampling."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from videodpo.dpo.policy import without_dropout
from videodpo.models.base import VideoModel, collate
from videodpo.models.shared.prompt_embeds import NEGATIVE, CachedTexts
from videodpo.runtime.seeds import derive_seed
from videodpo.runtime.settings import TrainSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.tables import read_table
from videodpo.storage.video import write_mp4

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


def draw_samples(
    model: VideoModel,
    snapshot: Snapshot[TrainSettings],
    round_folder: Path,
    accelerator: Accelerator,
    step: int,
    num_prompts: int,
) -> None:
    """Write `samples/step-<step>.mp4`, with the same prompts and seeds each time.

    Every rank must sample, because sharded weights are gathered in every pass. The main rank decodes and writes.

    Args:
        model: the policy.
        snapshot: settings of the training.
        round_folder: folder of the round, which has the pairs' prompts.
        accelerator: identifies the main rank.
        step: number of optimizer steps done.
        num_prompts: number of prompts to sample.
    """
    sampling = snapshot.settings.sampling
    texts = CachedTexts(round_folder)
    paired = sorted(set(read_table(round_folder / "pairs.parquet", ["prompt_id"])["prompt_id"]))
    frames = []
    for prompt_id in paired[:num_prompts]:
        text = {name: tensor.to(model.device) for name, tensor in collate([texts.of(prompt_id)]).items()}
        seed = derive_seed(snapshot.seed, "training sample", prompt_id)
        with without_dropout(model):
            latents_1CFHW = model.sample(text, [seed], sampling, negative=texts.of(NEGATIVE))
        if accelerator.is_main_process:
            with torch.no_grad(), model.with_vae():
                (decoded,) = model.decode(latents_1CFHW)
            if decoded is None:
                log.warning("step %d: the sample of prompt %s is not finite and is left out", step, prompt_id)
            else:
                frames.append(decoded)
    if frames:
        path = round_folder / "samples" / f"step-{step:06d}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_mp4(path, np.concatenate(frames, axis=2), sampling.fps, crf=sampling.crf)
    accelerator.wait_for_everyone()
