"""Statistics of the held-out clips' pixels, and the distances between the seeds of a prompt."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.support.finished_round import FinishedRound
from videodpo.runtime.settings import AppearanceSettings
from videodpo.stages.appearance import measure_appearance, pixel_statistics, seed_distances
from videodpo.storage.manifests import Damaged
from videodpo.storage.schemas import STATISTICS
from videodpo.storage.tables import read_table


def frames(colour):
    return np.full((2, 16, 16, 3), colour, np.uint8)


@pytest.mark.parametrize(
    ("colour", "exposure", "overexposed", "saturation"),
    [
        ((0, 0, 0), 0, 0, 0),
        ((255, 255, 255), 1, 1, 0),
        ((255, 0, 0), 0.2126, 0, 1),
        ((100, 50, 100), 0.252, 0, 50 / 255),
    ],
)
def test_statistics_of_a_plain_colour(colour, exposure, overexposed, saturation):
    found = pixel_statistics(frames(colour))
    assert found["exposure"] == pytest.approx(exposure, abs=1e-3)
    assert found["overexposed"] == overexposed
    assert found["saturation"] == pytest.approx(saturation)
    assert found["contrast"] == pytest.approx(0, abs=1e-6)
    assert found["sharpness"] == pytest.approx(0, abs=1e-6)


def test_statistics_of_an_edge():
    sharp = frames((0, 0, 0))
    sharp[:, :, 8:] = 255
    blurred = sharp.copy()
    blurred[:, :, 6:10] = np.array([64, 64, 191, 191])[None, None, :, None]
    found, softer = pixel_statistics(sharp), pixel_statistics(blurred)
    assert found["contrast"] == pytest.approx(0.5, abs=1e-3)
    assert found["sharpness"] == pytest.approx((2 / 16) ** 0.5 / 4, abs=1e-3)  # two of 16 columns see the step
    assert softer["sharpness"] < 0.7 * found["sharpness"]


def test_seed_distances_average_to_the_mean_over_all_pairs():
    raw = np.random.default_rng(0).normal(size=(4, 8))
    embeddings = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    pairs = [1 - left @ right for left, right in itertools.combinations(embeddings, 2)]
    assert seed_distances(embeddings).mean() == pytest.approx(np.mean(pairs))
    assert seed_distances(np.stack([embeddings[0]] * 3)) == pytest.approx(0)


@pytest.fixture
def finished(tmp_path):
    return FinishedRound(tmp_path, num_train=1, num_heldout=2)


def measure(finished, embedder=None, options=None):
    settings = AppearanceSettings(embedder=embedder, options=options or {})
    measure_appearance(finished._snapshot("appearance", settings), finished.round, "base")
    return read_table(finished.round / "evaluation/appearance/base.parquet")


def test_each_held_out_clip_has_a_row_with_its_statistics(finished, clip_folder):
    finished.videos["base"][1] |= {"status": "failed", "error": "out of memory", "path": None, "sha256": None}
    finished.write()
    options = {"weights": str(clip_folder)}
    table = measure(finished, "background_consistency_clip", options).set_index("video_id")
    assert len(table) == 4
    failed = finished.videos["base"][1]
    assert table.loc[failed["video_id"], "error"] == "out of memory"
    ok = table[table.status == "ok"]
    assert len(ok) == 3
    assert ok[list(STATISTICS[:-1])].notna().all(axis=None)
    of_failed = ok.prompt_id == failed["prompt_id"]
    assert ok[of_failed].seed_distance.isna().all()  # a single clip has no distance to others
    assert (ok[~of_failed].seed_distance > 0).all()


def test_without_a_scorer_there_is_no_distance(finished):
    assert measure(finished.write()).seed_distance.isna().all()


def test_a_killed_job_measures_only_the_clips_that_it_lacks(finished):
    before = measure(finished.write())
    for video in finished.videos["base"]:
        (finished.folder / video["path"]).unlink()
    (finished.round / "evaluation/appearance/base.parquet").unlink()
    assert measure(finished).equals(before)


def test_a_damaged_clip_is_refused(finished):
    finished.write()
    (finished.folder / finished.videos["base"][0]["path"]).write_bytes(b"other")
    with pytest.raises(Damaged, match="sha256 differs"):
        measure(finished)
