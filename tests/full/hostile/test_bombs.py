"""Small files that ask for far more than they are worth: refused with a message, in bounded memory and time."""

import pytest
import torch

from tests.full.hostile import bombs
from tests.full.hostile.readers import READERS
from videodpo.storage.manifests import manifest_path

MEGABYTES = 700  # peak of one reading, on top of what the process has
SECONDS = 30


@pytest.mark.parametrize(
    ("bomb", "reader", "says"),
    [
        (bombs.aliases, "config", "aliases"),
        (bombs.nested, "config", "larger than"),
        (bombs.nested_a_little, "config", "not readable as YAML"),
        (bombs.nested_json, "snapshot", "not a settings snapshot"),
        (bombs.nested_json, "measured", "not readable as JSON"),
        (bombs.long_line, "jsonl", "longer than"),
        (bombs.long_line, "text", "longer than"),
        (bombs.long_line, "csv", "longer than"),
        (bombs.long_line, "data set", "longer than"),
        (bombs.inflating_lines, "data set", "gzip"),
        (bombs.many_texts, "parquet", "rows"),
        (bombs.long_texts, "parquet", "a text has more than"),
        (bombs.many_texts, "table", "rows"),
        (bombs.long_texts, "table", "bytes"),
        (bombs.many_columns, "parquet", "footer"),
        (bombs.many_columns, "table", "footer"),
        (bombs.large_header, "safetensors", "not readable"),
        (bombs.large_header, "latents", "not readable"),
        (bombs.large_header, "texts", "not readable"),
        (bombs.large_header, "adapter", "not an adapter"),
        (bombs.large_tensor, "safetensors", "not readable"),
        (bombs.large_tensor, "latents", "not readable"),
        (bombs.inflating, "checkpoint", "compressed"),
        (bombs.billion_samples, "video", "clip.mp4"),
        (bombs.huge_picture, "video", "pixels"),
        (bombs.huge_png, "video", "clip.mp4"),
    ],
)
def test_a_bomb_is_refused(bomb, reader, says, tmp_path, worker):
    path = tmp_path / READERS[reader].file
    READERS[reader].make(path)
    assert worker.ask(reader, path, seconds=120)["outcome"] == "read"  # what it imports is loaded
    path.unlink()
    manifest_path(path).unlink(missing_ok=True)
    bomb(path)
    answer = worker.ask(reader, path, seconds=SECONDS)
    path.unlink()
    assert answer["outcome"] == "refused", answer
    assert says in answer["message"]
    assert answer["megabytes"] < MEGABYTES
    assert len(answer["message"]) < 2000


def test_a_film_that_declares_a_billion_frames_has_those_that_are_there(tmp_path, worker):
    bombs.billion_frames(tmp_path / "clip.mp4")
    answer = worker.ask("video", tmp_path / "clip.mp4")
    assert answer["outcome"] == "read", answer
    assert answer["megabytes"] < MEGABYTES


def test_the_code_of_a_torchscript_is_not_run(tmp_path, worker):
    path = tmp_path / "weights.ts"
    bombs.raising_script(path)
    answer = worker.ask("torchscript", path, seconds=120)
    assert answer["outcome"] == "refused", answer
    assert "no tensors" in answer["message"]
    with pytest.raises(torch.jit.Error, match="this ran"):
        torch.jit.load(path)


@pytest.mark.parametrize(
    ("bomb", "reader"),
    [
        (bombs.touching, "checkpoint"),
        (bombs.touching_archive, "checkpoint"),
        (bombs.touching, "old checkpoint"),
        (bombs.touching_archive, "torchscript"),
        (bombs.touching_index, "state metadata"),
        (bombs.touching_value, "state tensors"),
    ],
)
def test_a_pickle_that_would_make_a_file_is_refused_and_makes_none(bomb, reader, tmp_path, worker):
    path = tmp_path / READERS[reader].file
    bomb(path)
    answer = worker.ask(reader, path, seconds=120)
    assert answer["outcome"] == "refused", answer
    assert not (tmp_path / "touched").exists()
