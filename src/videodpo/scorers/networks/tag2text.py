"""Tag2Text: tags of a frame, and a caption that is written with their help.

The networks are Swin-B from timm and BLIP's text networks from transformers.

Legend: P frames, C channel, H, W pixels; N image tokens, G tags, L text tokens, D width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import timm
import torch
from accelerate import init_empty_weights
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers import (
    BlipTextConfig,
    BlipTextLMHeadModel,
    BlipTextModel,
    DynamicCache,
    EncoderDecoderCache,
)

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.beam_search import Text, best_texts
from videodpo.scorers.networks.bert_vocabulary import bert_tokenizer, lines_of
from videodpo.scorers.shared.backbone import Backbone, Part, Unavailable
from videodpo.scorers.shared.crops import normalized
from videodpo.scorers.shared.middle_frames import middle_frames
from videodpo.storage.clips import read_content
from videodpo.storage.video import decode_squares
from videodpo.weights.checkpoints import fitting_tensors, read_checkpoint

NUM_FRAMES = 16
FIRST_FRAMES = 6
"""Number of frames in the first part of a clip, which are all that VBench's captions describe."""
THRESHOLD = 0.7  # VBench's; the authors' demo has 0.68
LEFT_OUT = (127, 3265, 3338, 3351, 3355, 3359)  # indices of numerals in the list of tags
TAG_TOKENS = 40
PROMPT = "a picture of "
BEAMS, MIN_TOKENS, MAX_TOKENS = 3, 10, 30
_BEGIN, _TAGS = "[DEC]", "[ENC]"  # tokens that the authors added to BERT's, in this order
# Tables that the networks compute.
_COMPUTED = ("relative_position_index", "attn_mask", "position_ids")


@dataclass(frozen=True)
class Sizes:
    """Sizes of the networks, by default those of the published checkpoint."""

    side: int = 384
    """Height and width of a frame."""
    window: int = 12
    image_width: int = 128
    image_layers: tuple[int, ...] = (2, 2, 18, 2)
    image_heads: tuple[int, ...] = (4, 8, 16, 32)
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    tag_layers: int = 2
    tag_heads: int = 4


class Tag2TextCaptions(Backbone):
    """Captions of 16 frames of a clip, the middles of equal intervals.

    The first part of a clip is its first six different frames, the second part the rest, if there are more. The output
    is a list of captions. A batch is one part, so that it does not depend on whether the second one is wanted.
    """

    sizes: ClassVar[Sizes] = Sizes()

    def __init__(self, checkpoint: Path, vocabulary: Path, tags: Path, device: str) -> None:
        """Load the network.

        Args:
            checkpoint: the authors' file.
            vocabulary: BERT's `vocab.txt`.
            tags: the authors' list of tags, one per line.
            device: name of the torch device.

        Raises:
            InputError: the tensors are not those of this network, or a text file is not what it should be.
        """
        self._device = device
        self._tags = lines_of(tags)
        self._tokenizer = bert_tokenizer(vocabulary)
        self._tokenizer.add_tokens([_BEGIN, _TAGS], special_tokens=True)
        tensors = _timm_names(read_checkpoint(checkpoint))
        self.network = Tag2TextNetwork(self.sizes, len(self._tags), len(self._tokenizer))
        tensors = fitting_tensors(self.network, tensors, checkpoint)
        self.network.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
        self.network.eval().requires_grad_(False).to(device)

    def batch_size(self, height: int, width: int) -> int:
        return 1

    def num_parts(self, clip: Clip) -> int:
        return 1 if len(clip.frames_THWC) <= FIRST_FRAMES else 2

    def refuse(self, clip: Clip) -> None:
        if not clip.info.get("scene", "").strip():
            raise InputError('the clip\'s scene is not known; name it, for example --info \'{"scene": "alley"}\'')
        if clip.path is None:
            raise InputError("the clip has no file; frames are scaled while they are decoded from it")

    def outputs(self, parts: Sequence[Part]) -> list[list[str]]:
        return [self.captions(self.frames(clip, part)) for clip, part in parts]

    def frames(self, clip: Clip, part: int) -> torch.Tensor:
        """Decode the frames of a part as squares, uint8 [P, C, H, W], on the CPU."""
        assert clip.path is not None
        sampled = sorted(set(middle_frames(len(clip.frames_THWC), NUM_FRAMES)))
        numbers = sampled[FIRST_FRAMES:] if part else sampled[:FIRST_FRAMES]
        try:
            content = read_content(clip.path)
        except OSError as error:
            raise Unavailable(f"{clip.path.name}: {error.strerror or error}") from error
        squares_THWC = decode_squares(content, clip.path.name, numbers, self.sizes.side)
        return torch.from_numpy(squares_THWC).permute(0, 3, 1, 2)

    @torch.no_grad()
    def captions(self, frames_PCHW: torch.Tensor) -> list[str]:
        """Return a caption of each uint8 frame."""
        image_PND = self.network.image_tokens(frames_PCHW.to(self._device))
        states_PLD = self.tag_states(self.tags(self.network.tag_logits(image_PND)), image_PND)
        texts = self.texts(states_PLD)
        if not all(math.isfinite(score) for score, _ in texts):
            raise InputError("Tag2Text's output is not finite")
        return [self._tokenizer.decode(ids, skip_special_tokens=True)[len(PROMPT) :] for _, ids in texts]

    def tags(self, logits_PG: torch.Tensor) -> list[str]:
        """Return the names of the tags of each frame, separated by bars."""
        found = [row.nonzero().flatten().tolist() for row in logits_PG.sigmoid() > THRESHOLD]
        return [" | ".join(self._tags[index] for index in indices if index not in LEFT_OUT) for indices in found]

    def tag_states(self, tags: Sequence[str], image_PND: torch.Tensor) -> torch.Tensor:
        """Encode tags together with their frames, [P, L, D]."""
        tokens = self._tokenizer(
            list(tags), padding="max_length", truncation=True, max_length=TAG_TOKENS, return_tensors="pt"
        ).to(self._device)
        tokens["input_ids"][:, 0] = self._tokenizer.convert_tokens_to_ids(_TAGS)
        states_PLD: torch.Tensor = self.network.tag_encoder(
            tokens["input_ids"], attention_mask=tokens["attention_mask"], encoder_hidden_states=image_PND
        ).last_hidden_state
        return states_PLD

    def texts(self, states_PLD: torch.Tensor) -> list[Text]:
        """Write a text about each frame's tags; it sees the padding of the tags too, as in the authors' code."""
        states_NLD = states_PLD.repeat_interleave(BEAMS, dim=0)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())

        def step(tokens_NL: torch.Tensor, parents_N: torch.Tensor) -> torch.Tensor:
            cache.reorder_cache(parents_N.to(self._device))
            found = self.network.text_decoder(
                tokens_NL.to(self._device),
                encoder_hidden_states=states_NLD,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits_NV: torch.Tensor = found.logits[:, -1]
            return logits_NV

        begin, end = self._tokenizer.convert_tokens_to_ids([_BEGIN, "[SEP]"])
        return best_texts(
            step,
            [begin, *self._tokenizer(PROMPT, add_special_tokens=False)["input_ids"]],
            num_texts=len(states_PLD),
            num_beams=BEAMS,
            min_length=MIN_TOKENS,
            max_length=MAX_TOKENS,
            end=end,
        )


class Tag2TextNetwork(torch.nn.Module):
    """The networks without weights, under the names of the authors' checkpoint except for timm's."""

    def __init__(self, sizes: Sizes, num_tags: int, num_words: int) -> None:
        super().__init__()
        self.visual_encoder: Any = timm.create_model(
            "swin_base_patch4_window12_384",
            num_classes=0,
            img_size=sizes.side,
            window_size=sizes.window,
            embed_dim=sizes.image_width,
            depths=sizes.image_layers,
            num_heads=sizes.image_heads,
        )

        def text(seen: int, heads: int = sizes.text_heads, layers: int = sizes.text_layers) -> BlipTextConfig:
            return BlipTextConfig(
                vocab_size=num_words,
                hidden_size=sizes.text_width,
                intermediate_size=4 * sizes.text_width,
                encoder_hidden_size=seen,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                is_decoder=True,  # otherwise the layers see no image
            )

        # timm computes tables from its weights' device, so its network cannot be empty.
        with init_empty_weights(include_buffers=False):
            image_width = self.visual_encoder.num_features
            self.tag_encoder: Any = BlipTextModel(text(image_width), add_pooling_layer=False)
            self.text_decoder: Any = BlipTextLMHeadModel(text(sizes.text_width))
            self.vision_multi: Any = BlipTextModel(
                text(image_width, sizes.tag_heads, sizes.tag_layers), add_pooling_layer=False
            )
            # The tagger's layers see the image, but neither words nor other tags.
            del self.vision_multi.embeddings
            for layer in self.vision_multi.encoder.layer:
                del layer.attention
            self.label_embed = torch.nn.Embedding(num_tags, sizes.text_width)
            self.fc = torch.nn.ParameterDict(
                {"W": torch.empty(1, num_tags, sizes.text_width), "b": torch.empty(1, num_tags)}
            )

    def image_tokens(self, frames_PCHW: torch.Tensor) -> torch.Tensor:
        """Encode uint8 frames, [P, N, D]; the first token is the mean of the others."""
        pixels_PCHW = normalized(frames_PCHW / 255, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        states_PND = self.visual_encoder.forward_features(pixels_PCHW).flatten(1, 2)
        return torch.cat([states_PND.mean(dim=1, keepdim=True), states_PND], dim=1)

    def tag_logits(self, image_PND: torch.Tensor) -> torch.Tensor:
        """Return a logit for every tag, [P, G]."""
        states_PGD = self.label_embed.weight.expand(len(image_PND), -1, -1)
        for layer in self.vision_multi.encoder.layer:
            states_PGD, _ = layer.crossattention(states_PGD, encoder_hidden_states=image_PND)
            states_PGD = layer.feed_forward_chunk(states_PGD)
        logits_PG: torch.Tensor = (self.fc["W"] * states_PGD).sum(dim=-1) + self.fc["b"]
        return logits_PG


def _timm_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the layers between Swin's stages, which timm counts to the next stage; leave out computed tables."""
    return {
        re.sub(r"layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) + 1}.downsample", name): value
        for name, value in tensors.items()
        if not name.endswith(_COMPUTED)
    }
