"""Text that a reward model reads after the frames, from its authors' published Python file, which is never run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from videodpo.config.errors import InputError
from videodpo.scorers.shared.python_texts import text_constants

PROMPT = "{text_prompt}"
# Qwen2-VL's chat format, with its default system message.
CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|>{media}<|vision_end|>{text}<|im_end|>\n<|im_start|>assistant\n"
)


@dataclass(frozen=True)
class RewardText:
    """Where a reward model's text is published, and where in it the model answers.

    Attributes:
        file: the authors' name of the Python file.
        constants: names of the Python constants that make up the text, in order.
        tokens: special tokens at which the model answers, in the order of their numbers.
        media: placeholder of the frames.
    """

    file: str
    constants: tuple[str, ...]
    tokens: tuple[str, ...]
    media: str

    def read(self, path: Path) -> str:
        """Read the text with `{text_prompt}` in place of the clip's prompt.

        Raises:
            InputError: the file lacks a constant, or the text lacks a token or `{text_prompt}`.
        """
        found = text_constants(path)
        if missing := [name for name in self.constants if name not in found]:
            raise InputError(
                f"weights: {path}: no text constant {missing[0]}; name the authors' Python file that has it"
            )
        text = "".join(found[name] for name in self.constants)
        for part in (PROMPT, *self.tokens):
            if text.count(part) != 1:
                names = " and ".join(self.constants)
                raise InputError(f"weights: {path}: {part} is {text.count(part)} times in {names}, not once")
        return text

    def chat(self, text: str, prompt: str) -> str:
        """Return the entire conversation, with one placeholder for the frames."""
        return CHAT.format(media=self.media, text=text.replace(PROMPT, prompt))


VIDEOREWARD = RewardText(
    file="prompt_template.py",
    constants=("DETAILED_PROMPT_WITH_SPECIAL_TOKEN",),
    tokens=("<|VQ_reward|>", "<|MQ_reward|>", "<|TA_reward|>"),
    media="<|video_pad|>",
)
HPSV3 = RewardText(
    file="data_collator_qwen.py",
    constants=("INSTRUCTION", "prompt_with_special_token"),
    tokens=("<|Reward|>",),
    media="<|image_pad|>",
)
