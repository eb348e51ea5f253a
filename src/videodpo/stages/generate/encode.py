"""Encode a shard's prompts before the denoiser is loaded, so that the two need not fit into memory together."""

from __future__ import annotations

import logging

from videodpo.config import Model, Sampling
from videodpo.models import load_model
from videodpo.models.base import PromptEmbeds, VideoModel
from videodpo.models.shared.prompt_embeds import EMPTY, NEGATIVE, encode_prompts, strip_padding
from videodpo.runtime.device import release_memory
from videodpo.stages.generate.shards import Shard

log = logging.getLogger(__name__)


def encode_missing(shard: Shard, sampling: Sampling, settings: Model, device: str) -> None:
    """Encode the prompts of every unfinished batch. The text encoder is loaded alone and freed at the end.

    Args:
        sampling: has the negative prompt.
        device: as configured: auto, cpu or cuda.

    Raises:
        Interrupted: a signal asked to stop; the encodings so far are saved.
    """
    model: VideoModel | None = None
    texts: dict[str, PromptEmbeds] = {}  # of the previous batch: its last prompt may also be in the next one
    for batch in shard.without_texts():
        model = model or load_model(settings, device, parts={"text"})
        own = {request.prompt_id: request.prompt for request in batch.requests}
        wanted = {EMPTY: "", NEGATIVE: sampling.negative_prompt} | own
        texts = encode_prompts(model, wanted, texts)
        shard.save_texts(batch, {key: strip_padding(text) for key, text in texts.items()})
    if model is not None:
        log.info("%s: all prompts are encoded", shard.files.work.name)
        del model, texts
        release_memory()
