"""Builds the byte-level BPE tokenizer that the tiny text encoder and the tiny CLIP share."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from videodpo.demo_world.captions import all_scenes

PAD, EOS = 0, 1
CONTEXT_LENGTH = 32  # a two-object caption has 16 tokens


def build() -> PreTrainedTokenizerFast:
    """Build the tokenizer: every word of the demo world is one token, any other text is split into bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    train_runtime = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((scene.caption for scene in all_scenes()), train_runtime)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", model_max_length=CONTEXT_LENGTH
    )
