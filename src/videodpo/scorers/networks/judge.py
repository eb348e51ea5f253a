"""A vision-language model from transformers that answers one question about each clip.

Legend: P clips, T steps, V vocabulary, W ways to write the answers, A answers.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.answer_tokens import (
    SHOWN,
    answer_tokens,
    expected_value,
    found_answer,
    most_likely_value,
    ways_to_write,
    written_answer,
)
from videodpo.scorers.networks.transformers_folder import load_model, load_processor
from videodpo.scorers.shared.backbone import ClipBackbone, Part
from videodpo.scorers.shared.judge_frames import fit_pixels, frames_at_rate, frames_at_starts, spaced_frames
from videodpo.scorers.shared.judge_options import PROMPT, Asked, JudgeOptions
from videodpo.scorers.shared.python_texts import longest_text
from videodpo.weights.locations import resolve

SAMPLING = ("temperature", "top_p", "top_k")  # settings that greedy search does not use


@dataclass(frozen=True)
class Answer:
    """What the judge wrote about a clip."""

    ids: list[int]
    """Token of each step."""
    logits_TWA: torch.Tensor
    """Logits of the answers' tokens at each step, on the CPU; with no `answers`, W is 0."""


class Judge(ClipBackbone):
    """Ask one question about each clip and its prompt. A clip has one part, and scorers share its answer."""

    def __init__(self, folder: Path, device: str, asked: str) -> None:
        """Load the model.

        Args:
            folder: folder of model, processor and tokenizer.
            device: name of the torch device.
            asked: the settings `Asked` as JSON, so that `shared` can compare them.

        Raises:
            InputError: the question lacks the placeholder, or an answer is not one token of the model.
        """
        self._asked = options = Asked.model_validate_json(asked)
        super().__init__(device, clips_per_batch=4 if options.max_new_tokens else 8)
        self._model, self._processor = load_judge(folder, device, options.dtype)
        self._tokenizer = self._processor.tokenizer
        self._question = options.question or longest_text(resolve(options.question_file or ""))
        if options.placeholder != PROMPT and options.placeholder not in self._question:
            raise InputError(f"placeholder: {options.placeholder!r} is not in the question; give the text that is")
        self._shows_video = not options.images and "video_processor" in type(self._processor).get_attributes()
        self._ways: list[list[int]] = []
        if options.answers and options.max_new_tokens:
            self._ways = ways_to_write(self._tokenizer, list(options.answers))
        elif options.answers:
            before = self._chat(self._question, num_frames=1)
            self._ways = [answer_tokens(self._tokenizer, before, list(options.answers))]

    def refuse(self, clip: Clip) -> None:
        """Refuse a clip without a frame rate, and an empty prompt or one with special tokens, such as image markers."""
        if not clip.fps:
            raise InputError("vision_language_judge needs a frame rate; the file has none")
        if self._asked.placeholder not in self._question:
            return
        if not clip.prompt.strip():
            raise InputError("vision_language_judge's question includes the prompt, and this prompt is empty")
        tokens = self._tokenizer.added_tokens_decoder.values()
        if found := [token.content for token in tokens if token.special and token.content in clip.prompt]:
            raise InputError(f"the prompt has {found[0]!r}, a special token of the judge; remove it")

    def read(self, answer: Answer, options: JudgeOptions) -> float:
        """Compute the score from the judge's answer.

        Raises:
            InputError: the text has no answer.
        """
        values = list((options.answers or {}).values())
        step, way = 0, 0
        if options.pattern is not None:
            pattern = re.compile(options.pattern)
            if options.answers is None:
                return _number(written_answer(self._tokenizer, answer.ids, pattern))
            step, way = found_answer(self._tokenizer, answer.ids, pattern, self._ways)
        if options.score == "written":
            return values[self._ways[way].index(answer.ids[step])]
        value = most_likely_value if options.score == "most_likely" else expected_value
        return value(answer.logits_TWA[step, way], values)

    def outputs(self, parts: Sequence[Part]) -> list[Answer]:
        shown = [self._frames(clip) for clip, _ in parts]
        answers: dict[int, Answer] = {}
        for num_frames in sorted({len(numbers) for numbers in shown}):  # some models need equal numbers per batch
            same = [index for index, numbers in enumerate(shown) if len(numbers) == num_frames]
            found = self._ask([parts[index][0] for index in same], [shown[index] for index in same])
            answers.update(zip(same, found, strict=True))
        return [answers[index] for index in range(len(parts))]

    @torch.no_grad()
    def _ask(self, clips: Sequence[Clip], shown: Sequence[list[int]]) -> list[Answer]:
        inputs = self._inputs(clips, shown)
        ways_WA = torch.tensor(self._ways, dtype=torch.long, device=self.device)
        if not self._ways:
            ways_WA = ways_WA.view(0, 0)
        steps: list[torch.Tensor] = []
        # Generation's `output_logits` would keep the logits of all words until its end: 600 MB per clip for 1,024
        # tokens. A logits processor would see them after the folder's own processors, for example for repetitions.
        hook = self._model.register_forward_hook(
            lambda model, inputs, output: steps.append(output.logits[:, -1][:, ways_WA].float())
        )
        try:
            ids_PL = self._model.generate(
                **inputs,
                max_new_tokens=max(1, self._asked.max_new_tokens),
                do_sample=False,
                num_beams=1,
                return_dict_in_generate=False,
                **dict.fromkeys(SAMPLING),
            )
        finally:
            hook.remove()
        ids_PT = ids_PL[:, inputs["input_ids"].shape[1] :].tolist()
        logits_TPWA = torch.stack(steps).cpu()
        return [Answer(ids, logits_TPWA[:, row]) for row, ids in enumerate(ids_PT)]

    def _inputs(self, clips: Sequence[Clip], shown: Sequence[list[int]]) -> Any:
        """Return token ids, masks and pixels of one batch; texts are padded on the left."""
        texts = [
            self._chat(self._question.replace(self._asked.placeholder, clip.prompt), len(numbers))
            for clip, numbers in zip(clips, shown, strict=True)
        ]
        frames = [
            fit_pixels(clip.frames_THWC[numbers], self._asked.max_pixels)
            for clip, numbers in zip(clips, shown, strict=True)
        ]
        media: dict[str, Any] = {"images": [list(frames_THWC) for frames_THWC in frames]}
        if self._shows_video:
            about = [self._times(clip, numbers) for clip, numbers in zip(clips, shown, strict=True)]
            media = {"videos": frames, "video_metadata": about, "do_sample_frames": False}
        bos = self._tokenizer.bos_token
        has_bos = bos is not None and texts[0].startswith(bos)
        inputs = self._processor(text=texts, **media, padding=True, add_special_tokens=not has_bos, return_tensors="pt")
        return inputs.to(self.device, dtype=self._model.dtype)  # converts only floating-point tensors to dtype

    def _times(self, clip: Clip, numbers: list[int]) -> dict[str, Any]:
        """Return the metadata from which the processor computes the times of the frames."""
        total, fps = len(clip.frames_THWC), clip.fps
        if self._asked.nominal_times:
            total, fps, numbers = len(numbers), self._asked.fps, list(range(len(numbers)))
        return {"total_num_frames": total, "fps": fps, "frames_indices": numbers, "duration": total / fps}

    def _frames(self, clip: Clip) -> list[int]:
        options, total = self._asked, len(clip.frames_THWC)
        if options.num_frames is not None:
            choose = frames_at_starts if options.spacing == "starts" else spaced_frames
            return choose(total, options.num_frames)
        return frames_at_rate(total, clip.fps, options.fps, options.min_frames, options.max_frames)

    def _chat(self, question: str, num_frames: int) -> str:
        """Return the conversation up to the judge's answer, with placeholders for the frames."""
        media = [{"type": "video"}] if self._shows_video else [{"type": "image"}] * num_frames
        messages = [{"role": "user", "content": [*media, {"type": "text", "text": question}]}]
        chat: str = self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return chat + self._asked.answer_prefix


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"the judge answered {text[:SHOWN]!r}, which is not a number; check pattern") from error


@functools.cache
def load_judge(folder: Path, device: str, dtype: str) -> tuple[Any, Any]:
    """Load model and processor; each process loads them once for these weights and device."""
    processor = load_processor(AutoProcessor, folder)
    processor.tokenizer.padding_side = "left"
    return load_model(AutoModelForImageTextToText, folder, device, getattr(torch, dtype)), processor
