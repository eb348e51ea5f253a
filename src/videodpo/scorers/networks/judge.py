"""A vision-language model from transformers that answers one question about each clip.

Legend: P clips, T frames, V vocabulary.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.answer_tokens import answer_tokens, expected_value, found_answer, ways_to_write
from videodpo.scorers.networks.transformers_folder import load_model, load_processor
from videodpo.scorers.shared.backbone import ClipBackbone, Part, Result
from videodpo.scorers.shared.judge_frames import fit_pixels, frames_at_rate, spaced_frames
from videodpo.scorers.shared.judge_options import PROMPT, JudgeOptions

SAMPLING = ("temperature", "top_p", "top_k")  # settings that greedy search does not use


class Judge(ClipBackbone):
    """Ask one question about each clip and its prompt. A clip has one part; its answer is the score or the error."""

    def __init__(self, folder: Path, device: str, options: JudgeOptions) -> None:
        super().__init__(device, clips_at_once=4 if options.max_new_tokens else 8)
        self._model, self._processor = load_judge(folder, device, options.dtype)
        self._tokenizer = self._processor.tokenizer
        self._options = options
        self._shows_video = "video_processor" in type(self._processor).get_attributes()
        if options.max_new_tokens:
            self._ways = ways_to_write(self._tokenizer, list(options.answers))
        else:
            before = self._chat(options.question, num_frames=1)
            self._ways = [answer_tokens(self._tokenizer, before, list(options.answers))]

    def refuse(self, clip: Clip) -> None:
        """Refuse a clip without a frame rate, and an empty prompt or one with special tokens, such as image markers."""
        if not clip.fps:
            raise InputError("vision_language_judge needs a frame rate; the file has none")
        if PROMPT not in self._options.question:
            return
        if not clip.prompt.strip():
            raise InputError("vision_language_judge's question includes the prompt, and this prompt is empty")
        tokens = self._tokenizer.added_tokens_decoder.values()
        if found := [token.content for token in tokens if token.special and token.content in clip.prompt]:
            raise InputError(f"the prompt has {found[0]!r}, a special token of the judge; remove it")

    def answer(self, parts: Sequence[Part]) -> list[Result]:
        shown = [self._frames(clip) for clip, _ in parts]
        answers: dict[int, Result] = {}
        for num_frames in sorted({len(numbers) for numbers in shown}):  # some models need equal numbers per batch
            same = [index for index, numbers in enumerate(shown) if len(numbers) == num_frames]
            found = self._ask([parts[index][0] for index in same], [shown[index] for index in same])
            answers.update(zip(same, found, strict=True))
        return [answers[index] for index in range(len(parts))]

    @torch.no_grad()
    def _ask(self, clips: Sequence[Clip], shown: Sequence[list[int]]) -> list[Result]:
        inputs = self._inputs(clips, shown)
        written = self._model.generate(
            **inputs,
            max_new_tokens=max(1, self._options.max_new_tokens),
            do_sample=False,
            num_beams=1,
            output_logits=True,  # raw logits, before logits processors
            return_dict_in_generate=True,
            **dict.fromkeys(SAMPLING),
        )
        logits_TPV, start = written.logits, inputs["input_ids"].shape[1]
        values = list(self._options.answers.values())
        if not self._options.max_new_tokens:
            return [expected_value(logits_TPV[0][row], self._ways[0], values) for row in range(len(clips))]
        return [
            self._read(ids, [step_PV[row] for step_PV in logits_TPV], values)
            for row, ids in enumerate(written.sequences[:, start:].tolist())
        ]

    def _read(self, ids: list[int], logits_TV: list[torch.Tensor], values: list[float]) -> Result:
        assert self._options.pattern is not None
        try:
            step, way = found_answer(self._tokenizer, ids, re.compile(self._options.pattern), self._ways)
        except ValueError as error:
            return error
        return expected_value(logits_TV[step], way, values)

    def _inputs(self, clips: Sequence[Clip], shown: Sequence[list[int]]) -> Any:
        """Return token ids, masks and pixels of one batch; texts are padded on the left."""
        texts = [
            self._chat(self._options.question.replace(PROMPT, clip.prompt), len(numbers))
            for clip, numbers in zip(clips, shown, strict=True)
        ]
        frames = [
            fit_pixels(clip.frames_THWC[numbers], self._options.max_pixels)
            for clip, numbers in zip(clips, shown, strict=True)
        ]
        media: dict[str, Any] = {"images": [list(frames_THWC) for frames_THWC in frames]}
        if self._shows_video:
            about = [
                {"total_num_frames": len(clip.frames_THWC), "fps": clip.fps, "frames_indices": numbers}
                | {"duration": len(clip.frames_THWC) / clip.fps}
                for clip, numbers in zip(clips, shown, strict=True)
            ]
            media = {"videos": frames, "video_metadata": about, "do_sample_frames": False}
        bos = self._tokenizer.bos_token
        has_bos = bos is not None and texts[0].startswith(bos)
        inputs = self._processor(text=texts, **media, padding=True, add_special_tokens=not has_bos, return_tensors="pt")
        return inputs.to(self.device, dtype=self._model.dtype)  # converts only floating-point tensors to dtype

    def _frames(self, clip: Clip) -> list[int]:
        options, total = self._options, len(clip.frames_THWC)
        if options.num_frames is not None:
            return spaced_frames(total, options.num_frames)
        return frames_at_rate(total, clip.fps, options.fps, options.min_frames, options.max_frames)

    def _chat(self, question: str, num_frames: int) -> str:
        """Return the conversation up to the judge's answer, with placeholders for the frames."""
        places = [{"type": "video"}] if self._shows_video else [{"type": "image"}] * num_frames
        messages = [{"role": "user", "content": [*places, {"type": "text", "text": question}]}]
        chat: str = self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return chat + self._options.answer_prefix


@functools.lru_cache(maxsize=2)
def load_judge(folder: Path, device: str, dtype: str) -> tuple[Any, Any]:
    """Load model and processor; each process loads them once for these weights and device."""
    processor = load_processor(AutoProcessor, folder)
    processor.tokenizer.padding_side = "left"
    return load_model(AutoModelForImageTextToText, folder, device, getattr(torch, dtype)), processor
