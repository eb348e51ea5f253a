"""The generic judge with a tiny Qwen2.5-VL of the real class, its processor and real frames."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.tiny_transformers import byte_tokenizer, tiny_judge
from videodpo.config import ConfigError
from videodpo.config.section import validate
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.answer_tokens import (
    answer_tokens,
    expected_value,
    found_answer,
    last_match,
    most_likely_value,
    ways_to_write,
)
from videodpo.scorers.networks.transformers_folder import load_processor
from videodpo.scorers.shared.backbone import score_clips
from videodpo.scorers.shared.judge_frames import fit_pixels, frames_at_rate, frames_at_starts, spaced_frames
from videodpo.scorers.shared.python_texts import longest_text
from videodpo.scorers.vision_language_judge import VisionLanguageJudge

DIGITS = {str(number): float(number) for number in range(1, 6)}
QUESTION = "How well does the clip show: {prompt}\nRate {it} from 1 to 5."
PROMPT = 'a {red} boat,\n{prompt} on a lake {0} % "quoted"'


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def writing_folder(folder, tmp_path_factory) -> Path:
    """The same judge, changed to write only digits from 1 to 5."""
    writing = tmp_path_factory.mktemp("writing")
    shutil.copytree(folder, writing, dirs_exist_ok=True)
    settings = json.loads((writing / "generation_config.json").read_text())
    digits = byte_tokenizer()("12345")["input_ids"]
    settings["suppress_tokens"] = [token for token in range(len(byte_tokenizer())) if token not in digits]
    (writing / "generation_config.json").write_text(json.dumps(settings))
    return writing


def clip_of(num_frames: int = 9, prompt: str = PROMPT, seed: int = 3, size: tuple[int, int] = (60, 90)) -> Clip:
    return Clip(np.random.default_rng(seed).integers(0, 256, (num_frames, *size, 3), dtype=np.uint8), 8.0, prompt)


def options_of(folder: Path, **options: Any) -> VisionLanguageJudge.Options:
    raw = {"weights": str(folder), "question": QUESTION, "answers": DIGITS} | options
    return validate(VisionLanguageJudge.Options, raw)


def judge_of(folder: Path, **options: Any) -> VisionLanguageJudge:
    return VisionLanguageJudge(options_of(folder, **options), "cpu")


@torch.no_grad()
def logits_by_forward(
    folder: Path, clip: Clip, numbers: list[int], before: str = "", *, fps: float | None = None
) -> tuple[torch.Tensor, str]:
    """Logits of the next token in float64, and the text passed to the model."""
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    question = "How well does the clip show: " + clip.prompt + "\nRate {it} from 1 to 5."
    text = f"<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"
    about = {"total_num_frames": len(clip.frames_THWC), "fps": clip.fps, "frames_indices": numbers}
    if fps:  # the rate that the processor computes from these is fps
        about = {"total_num_frames": len(numbers), "fps": fps, "frames_indices": list(range(len(numbers)))}
    inputs = processor(
        text=[text + before],
        videos=[torch.from_numpy(clip.frames_THWC[numbers]).permute(0, 3, 1, 2)],
        video_metadata=[about],
        do_sample_frames=False,
        return_tensors="pt",
    )
    return model(**inputs).logits[0, -1].double(), processor.tokenizer.decode(inputs["input_ids"][0])


def expected(logits: torch.Tensor, answers: dict[str, float]) -> float:
    probabilities = logits.softmax(dim=0)
    ids = {answer: byte_tokenizer()(answer)["input_ids"][0] for answer in answers}
    total = sum(probabilities[ids[answer]].item() for answer in answers)
    return sum(value * probabilities[ids[answer]].item() for answer, value in answers.items()) / total


@pytest.mark.parametrize("prefix", ["", "My rating: "])
@pytest.mark.parametrize("answers", [DIGITS, {"yes": 1.0, "no": 0.0}])
def test_score_is_the_expected_value_of_the_next_token(folder, answers, prefix):
    clip = clip_of()
    logits, _ = logits_by_forward(folder, clip, [0, 3, 5, 8], prefix)
    score = judge_of(folder, answers=answers, answer_prefix=prefix).score(clip)
    assert score == pytest.approx(expected(logits, answers), abs=1e-5)
    assert min(answers.values()) < score < max(answers.values())


def test_nominal_times_are_those_of_the_wanted_rate(folder):
    clip = clip_of(9)  # 1.1 seconds: four frames are 3.6 per second, not 2
    nominal, real = (judge_of(folder, nominal_times=nominal).score(clip) for nominal in (True, False))
    logits, _ = logits_by_forward(folder, clip, [0, 3, 5, 8], fps=2.0)
    assert nominal == pytest.approx(expected(logits, DIGITS), abs=1e-5)
    assert abs(nominal - real) > 1e-5


def test_prompt_is_inserted_verbatim(folder):
    judge = judge_of(folder)
    clip = clip_of()
    inputs = judge.backbone._inputs([clip], [[0, 3, 5, 8]])
    seen = judge.backbone._tokenizer.decode(inputs["input_ids"][0])
    assert seen == logits_by_forward(folder, clip, [0, 3, 5, 8])[1]
    assert f"show: {PROMPT}\nRate {{it}} from" in seen
    assert seen.count("<|video_pad|>") == inputs["video_grid_thw"].prod() // 4


def test_score_is_reproducible(folder):
    first, second = (judge_of(folder).score(clip_of()) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("options", [{}, {"max_new_tokens": 6, "pattern": "([1-5])"}])
def test_batch_gives_the_scores_of_single_clips(writing_folder, monkeypatch, options):
    judge = judge_of(writing_folder, **options)
    prompts = {"a boat": 9, PROMPT: 9, "a long story about a tree that grows on a hill": 40, "red": 9}
    clips = [clip_of(num_frames, prompt, seed) for seed, (prompt, num_frames) in enumerate(prompts.items())]
    alone = [judge.score(clip) for clip in clips]
    monkeypatch.setattr(type(judge.backbone), "batch_size", lambda *_: 4)
    assert score_clips([judge], clips)[0] == pytest.approx(alone, abs=1e-4)
    assert len({round(score, 4) for score in alone}) == 4


@pytest.mark.parametrize("num_tokens", [1, 2, 7])
def test_written_answer_gives_the_expected_value_at_its_token(writing_folder, num_tokens):
    clip, numbers, written = clip_of(), [0, 3, 5, 8], ""
    for _ in range(num_tokens):
        logits, _ = logits_by_forward(writing_folder, clip, numbers, written)
        written += max(DIGITS, key=lambda digit: logits[byte_tokenizer()(digit)["input_ids"][0]].item())
    judge = judge_of(writing_folder, max_new_tokens=num_tokens, pattern="([1-5])")
    assert judge.score(clip) == pytest.approx(expected(logits, DIGITS), abs=1e-5)


SEVERAL = {"max_new_tokens": 5}


def test_dimensions_that_read_one_text_differently_share_its_generation(writing_folder, monkeypatch):
    readings = [
        {"pattern": "^([1-5])"},
        {"pattern": "([1-5])$"},
        {"pattern": "^([1-5])", "score": "most_likely"},
        {"pattern": "^([1-5])", "score": "written"},
    ]
    judges = [judge_of(writing_folder, **SEVERAL, **reading) for reading in readings]
    assert len({id(judge.backbone) for judge in judges}) == 1
    model, calls = judges[0].backbone._model, []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **inputs: calls.append(1) or generate(**inputs))
    clip = clip_of()
    first, last, likely, written = (found[0] for found in score_clips(judges, [clip]))
    assert len(calls) == 1
    logits, _ = logits_by_forward(writing_folder, clip, [0, 3, 5, 8])
    share = torch.stack([logits[byte_tokenizer()(digit)["input_ids"][0]] for digit in DIGITS]).softmax(0)
    assert first == pytest.approx(expected(logits, DIGITS), abs=1e-5)
    assert written == 1.0 + int(share.argmax())
    assert likely == pytest.approx(written * float(share.max()), abs=1e-4)
    assert last != first


@torch.no_grad()
def test_only_the_answers_logits_are_kept_and_they_are_those_before_the_processors(writing_folder, monkeypatch):
    judge = judge_of(writing_folder, **SEVERAL, pattern="^([1-5])").backbone
    monkeypatch.setattr(judge._model.generation_config, "repetition_penalty", 1.7)
    clips, shown = [clip_of(), clip_of(seed=4)], [[0, 3, 5, 8]] * 2
    inputs = judge._inputs(clips, shown)
    generate, calls = judge._model.generate, []
    monkeypatch.setattr(judge._model, "generate", lambda **options: calls.append(options) or generate(**options))
    answers = judge._ask(clips, shown)
    assert not calls[0].get("output_logits")
    options = {"max_new_tokens": 5, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    written = generate(**inputs, **options, output_scores=True)
    for row, answer in enumerate(answers):
        assert answer.ids == written.sequences[row, inputs["input_ids"].shape[1] :].tolist()
        kept = [[logits[row, way].tolist() for way in judge._ways] for logits in written.logits]
        assert answer.logits_TWA.tolist() == kept
    assert not torch.equal(written.logits[-1][:, judge._ways], written.scores[-1][:, judge._ways])


def test_a_written_number_needs_no_answers(writing_folder):
    judge = judge_of(writing_folder, **SEVERAL, answers=None, pattern="^([1-5]{3})", score="written")
    assert judge.score(clip_of()) in range(111, 556)
    with pytest.raises(ValueError, match="is not a number; check pattern"):
        judge_of(writing_folder, **SEVERAL, answers=None, pattern="^()", score="written").score(clip_of())


def test_the_authors_score_is_the_most_likely_value_times_its_share():
    logits = torch.log(torch.tensor([0.1, 0.3, 0.4]))
    assert most_likely_value(logits, [1.0, 2.0, 3.0]) == 1.5
    assert most_likely_value(torch.log(torch.tensor([1.0, 3.0])), [2.0, 3.0]) == 2.25


def test_reasoning_is_not_read():
    digit = re.compile("([1-5])")
    assert last_match("<think>5</think> 3, then <think>1</think> 4", digit).group(1) == "4"
    with pytest.raises(ValueError, match="no match for pattern: '</think> none'"):
        last_match("<think>5</think> none", digit)
    with pytest.raises(ValueError, match="reasoning does not end; raise max_new_tokens"):
        last_match("<think>5", digit)


CALL = "from os import abort\nabort()\ndef main(x):\n    text = Template('''\n    Rate $it, or {it}.\n    Now. ''')\n"
FIELD = "ask(a='no', b='Rate ' 'the clip ' f'[{prompt}] of {1 + 1}')\n'short'"


def test_a_question_is_read_from_a_file_that_is_never_run(folder, tmp_path):
    (tmp_path / "a.py").write_text(CALL)
    (tmp_path / "b.py").write_text(FIELD)
    assert longest_text(tmp_path / "a.py") == "\n    Rate $it, or {it}.\n    Now. "
    assert longest_text(tmp_path / "b.py") == "Rate the clip [{prompt}] of {1 + 1}"
    judge = judge_of(folder, question=None, question_file=str(tmp_path / "a.py"), placeholder="$it")
    inputs = judge.backbone._inputs([clip_of()], [[0, 3, 5, 8]])
    assert f"\n    Rate {PROMPT}, or {{it}}." in judge.backbone._tokenizer.decode(inputs["input_ids"][0])
    assert str(tmp_path / "a.py") in judge.weights(judge._options)
    with pytest.raises(ValueError, match="'\\$him' is not in the question"):
        judge_of(folder, question=None, question_file=str(tmp_path / "a.py"), placeholder="$him")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\0", "not readable as a Python file"), (b"x = 1", "has no text"), (None, "not readable")],
)
def test_a_file_without_a_question_is_refused_before_the_run(folder, tmp_path, content, message):
    if content is not None:
        (tmp_path / "q.py").write_bytes(content)
    options = options_of(folder, question=None, question_file=str(tmp_path / "q.py"))
    with pytest.raises(ValueError, match=message):
        VisionLanguageJudge.check(options)


def test_answer_without_a_match_is_shown_in_the_error(folder):
    with pytest.raises(ValueError, match=r"no match for pattern: '.+'"):
        judge_of(folder, max_new_tokens=5, pattern="visual quality[^0-9]*([1-5])").score(clip_of())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("visual quality: 3; text-to-video alignment: 4, physical/common-sense consistency: 2", "3;"),
        ("<think>visual quality 5? no</think>\n(1) visual quality, clarity: 4\n(2) alignment: 1", "4\n"),
        ("visual quality:4", "4"),
        ("é 你 visual quality -> 2", "2"),
    ],
)
def test_last_match_is_found_among_the_tokens(text, place):
    tokenizer = byte_tokenizer()
    ids = [*tokenizer(text)["input_ids"], tokenizer.convert_tokens_to_ids("<|im_end|>")]
    ways = ways_to_write(tokenizer, list(DIGITS))
    step, way = found_answer(tokenizer, ids, re.compile("visual quality[^0-9]*([1-5])"), ways)
    assert tokenizer.decode(ids[step : step + len(place)]).startswith(place)
    assert tokenizer.decode(ways[way]) == "12345"


def test_matched_text_that_is_not_an_answer_is_refused():
    tokenizer = byte_tokenizer()
    ways = ways_to_write(tokenizer, ["1", "2"])
    with pytest.raises(ValueError, match="answered '9', which is none of answers: 'score: 9'"):
        found_answer(tokenizer, tokenizer("score: 9")["input_ids"], re.compile("([0-9])"), ways)


def test_expected_value_equals_the_hand_computed_one():
    logits = torch.log(torch.tensor([0.5, 0.1, 0.3, 0.1]))
    assert expected_value(logits[[1, 2]], [10.0, 20.0]) == pytest.approx((0.1 * 10 + 0.3 * 20) / 0.4)


def test_answer_of_more_than_one_token_is_named(folder):
    with pytest.raises(ValueError, match="answers: 'maybe' is not one token"):
        judge_of(folder, answers={"yes": 1.0, "maybe": 0.5})
    with pytest.raises(ValueError, match="answers: '10' is not one token"):
        judge_of(folder, answers={"1": 1.0, "10": 10.0}, max_new_tokens=3, pattern="([0-9]+)")


def test_answers_of_one_token_are_named():
    class Deaf:
        """Tokenizer with the same token for every word after `:`."""

        unk_token_id = None

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [1] if text == ":" else [1, 2]}

    with pytest.raises(ValueError, match="'yes' and 'Yes' are the same token"):
        answer_tokens(Deaf(), ":", ["yes", "Yes"])


@pytest.mark.parametrize("prompt", ["a <|video_pad|> boat", "<|im_end|>"])
def test_prompt_with_a_special_token_is_refused(folder, prompt):
    with pytest.raises(ValueError, match="a special token of the judge"):
        judge_of(folder).score(clip_of(prompt=prompt))


def test_prompt_is_required_if_the_question_includes_it(folder):
    with pytest.raises(ValueError, match="this prompt is empty"):
        judge_of(folder).score(clip_of(prompt=" "))
    assert 1 < judge_of(folder, question="How sharp is it?").score(clip_of(prompt=" ")) < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answers": {"1": 1.0}}, "answers"),
        ({"max_new_tokens": 5}, "pattern: needed"),
        ({"pattern": "(x)"}, "no effect without max_new_tokens"),
        ({"max_new_tokens": 5, "pattern": "x"}, "has 0 groups"),
        ({"max_new_tokens": 5, "pattern": "(x"}, "not a regular expression"),
        ({"min_frames": 9, "max_frames": 8}, "less than min_frames"),
        ({"question_file": "q.py"}, "either question or question_file"),
        ({"question": None}, "either question or question_file"),
        ({"spacing": "starts"}, "no effect without num_frames"),
        ({"nominal_times": True, "num_frames": 4}, "no effect with num_frames"),
        ({"answers": None}, "answers: missing; the score 'expected' needs"),
        ({"score": "written"}, "'written' needs max_new_tokens"),
    ],
)
def test_inconsistent_options_are_refused(folder, options, message):
    with pytest.raises(ConfigError, match=message):
        options_of(folder, **options)


@pytest.mark.parametrize(
    ("total", "fps", "numbers"),
    [
        (33, 16.0, [0, 11, 21, 32]),
        (81, 16.0, [0, 9, 18, 27, 36, 44, 53, 62, 71, 80]),
        (9, 8.0, [0, 3, 5, 8]),
        (3, 8.0, [0, 2]),
        (1, 8.0, [0]),
    ],
)
def test_two_frames_per_second_are_rounded_to_an_even_number(total, fps, numbers):
    assert frames_at_rate(total, fps, 2.0, fewest=4, most=768) == numbers


def test_number_of_frames_can_be_given(folder):
    assert spaced_frames(9, 3) == [0, 4, 8]
    assert spaced_frames(2, 3) == [0, 1]
    assert judge_of(folder, num_frames=3).backbone._frames(clip_of(9)) == [0, 4, 8]
    assert frames_at_starts(33, 4) == [0, 8, 16, 24]
    assert frames_at_starts(2, 3) == [0, 0, 1]
    assert judge_of(folder, num_frames=3, spacing="starts").backbone._frames(clip_of(9)) == [0, 3, 6]


def test_large_frames_are_scaled():
    frames = clip_of(2, size=(480, 832)).frames_THWC
    assert fit_pixels(frames, None) is fit_pixels(frames, 480 * 832)
    smaller = fit_pixels(frames, 100_000)
    assert smaller.shape == (2, 240, 416, 3)
    assert smaller.dtype == np.uint8


def test_missing_package_of_a_processor_is_named(folder):
    class Smol:
        @staticmethod
        def from_pretrained(*_: Any, **__: Any) -> Any:
            raise ImportError("Package `num2words` is required")

    with pytest.raises(ValueError, match=r"`num2words` is required \(pip install 'videodpo\[judge\]'\)"):
        load_processor(Smol, folder)


def test_another_dtype_changes_the_score_little(folder):
    assert judge_of(folder, dtype="bfloat16").score(clip_of()) == pytest.approx(
        judge_of(folder).score(clip_of()), abs=0.3
    )


def test_processor_without_videos_gets_images(folder, monkeypatch):
    judge = judge_of(folder)
    video = judge.score(clip_of())
    monkeypatch.setattr(judge.backbone, "_shows_video", False)
    assert judge.backbone._inputs([clip_of()], [[0, 3, 5, 8]])["image_grid_thw"].shape == (4, 3)
    assert judge.score(clip_of()) != video
    monkeypatch.undo()
    assert judge_of(folder, images=True).score(clip_of()) != judge.score(clip_of()) == video
