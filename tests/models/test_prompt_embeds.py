"""Stored prompt embeddings equal the model's bit for bit."""

import pytest
import torch

from tests.conftest import Stages, small_run
from videodpo.models.shared.prompt_embeds import (
    EMPTY,
    NEGATIVE,
    CachedTexts,
    OnlineTexts,
    read_texts,
    restore_padding,
    strip_padding,
    write_texts,
)
from videodpo.storage.tables import read_shards, read_table


def sampled(random_model, folder, shards):
    """The small run with a negative prompt, sampled in the given number of shards."""
    raw = small_run(random_model, folder)
    raw["generate"] |= {"shards": shards}
    raw["generate"]["sampling"] |= {"negative_prompt": "still, blurred"}
    run = Stages(raw)
    run.prompts()
    run.generate()
    return run


@pytest.fixture(scope="module")
def one(random_model, tmp_path_factory):
    return sampled(random_model, tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def two(random_model, tmp_path_factory):
    return sampled(random_model, tmp_path_factory.mktemp("two"), 2)


@pytest.fixture(scope="module")
def model(one):
    from videodpo.models.wan import WanModel

    return WanModel(one.config.model, "cpu")


def same_bits(left, right):
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype
        and left[name].shape == right[name].shape
        and left[name].numpy().tobytes() == right[name].numpy().tobytes()
        for name in left
    )


def train_prompts(run):
    table = read_table(run.folder / "prompts.parquet").query("split == 'train'")
    return dict(zip(table["prompt_id"], table["prompt"], strict=True))


def test_stored_texts_equal_the_models_bit_for_bit(one, model):
    cached, fresh = CachedTexts(one.round_folder), OnlineTexts(one.folder, model)
    for prompt_id, words in train_prompts(one).items():
        assert same_bits(cached.of(prompt_id), model.encode_prompt(words))
        assert same_bits(fresh.of(prompt_id), model.encode_prompt(words))


def test_the_empty_and_the_negative_prompt_are_stored_too(one, model):
    cached, fresh = CachedTexts(one.round_folder), OnlineTexts(one.folder, model)
    assert same_bits(cached.of(EMPTY), model.encode_prompt(""))
    assert same_bits(fresh.of(EMPTY), model.encode_prompt(""))
    assert same_bits(cached.of(NEGATIVE), model.encode_prompt("still, blurred"))


def test_padding_is_not_stored(one):
    """Only the tokens of the caption are stored, of at most 32."""
    (file,) = (one.round_folder / "videos" / "texts").glob("*.safetensors")
    for text in read_texts(file).values():
        short, length = text["prompt_embeds"]
        assert len(short) < length == 32


def test_texts_are_the_same_for_every_shard_count(one, two):
    left, right = CachedTexts(one.round_folder), CachedTexts(two.round_folder)
    for prompt_id in (*train_prompts(one), EMPTY, NEGATIVE):
        assert same_bits(left.of(prompt_id), right.of(prompt_id))


def test_a_prompt_that_spans_two_shards_is_in_both_files(two):
    """18 clips, 3 per prompt, in shards of 8 and 10: the third prompt has clips in both."""
    folder = two.round_folder / "videos"
    videos = read_shards(folder)
    for shard in range(2):
        own = videos[videos["path"].str.contains(f"/shard-0000{shard}/")]
        texts = read_texts(folder / "texts" / f"shard-0000{shard}.safetensors")
        assert texts.keys() == {EMPTY, NEGATIVE, *own["prompt_id"]}


def test_a_prompt_without_a_text_names_the_prompt_and_the_stage_to_run(one, model):
    with pytest.raises(ValueError, match=r"prompt 0123: no encoded text in .*texts; re-run the stage generate"):
        CachedTexts(one.round_folder).of("0123")
    with pytest.raises(ValueError, match=r"prompt 0123: not in prompts\.parquet; re-run the stage prompts"):
        OnlineTexts(one.folder, model).of("0123")


def test_a_missing_file_names_the_stage_to_run_and_a_damaged_one_the_command_that_repairs(one, tmp_path):
    one.copy(tmp_path)
    round_folder = tmp_path / "small" / "round1"
    file = round_folder / "videos" / "texts" / "shard-00000.safetensors"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(
        ValueError, match=r"shard-00000\.safetensors: not readable .* `videodpo verify .* --discard-damaged`"
    ):
        CachedTexts(round_folder)
    file.unlink()
    with pytest.raises(ValueError, match="re-run the stage generate"):
        CachedTexts(round_folder)


def test_the_evaluation_stores_no_texts(one):
    from videodpo.stages.generate.sample import generate_heldout_shard

    generate_heldout_shard(one.snapshot("evaluate_generate"), 1, 0, "base", None)
    videos = one.round_folder / "evaluation" / "videos" / "base"
    assert (videos / "shard-00000.parquet").exists()
    assert not (videos / "texts").exists()


def test_masks_of_tokens_and_tensors_of_zeros_alone_are_stored(tmp_path):
    """As in HunyuanVideo: a mask of integers, and glyph embeddings, which are zero for most prompts."""
    text = {
        "mask": torch.tensor([1, 1, 0, 0]),
        "flags": torch.tensor([True, False, True, False]),
        "glyphs": torch.zeros(3, 2, dtype=torch.bfloat16),
        "signed": torch.tensor([[1.0, 0.0], [-0.0, 0.0], [0.0, 0.0]]),
    }
    write_texts(tmp_path / "texts.safetensors", {"a": strip_padding(text)})
    found = restore_padding(read_texts(tmp_path / "texts.safetensors")["a"])
    assert {name: (value.dtype, value.tolist()) for name, value in found.items()} == {
        name: (value.dtype, value.tolist()) for name, value in text.items()
    }
    assert torch.signbit(found["signed"]).equal(torch.signbit(text["signed"]))
