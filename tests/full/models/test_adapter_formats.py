"""The claims of tests/tools/test_adapter.py for all other families."""

import pytest
import torch

from tests.support.adapters import Trained, aligned_weights, run_example
from tests.support.families import FAMILIES, write
from tests.tools.test_adapter import *  # noqa: F403
from tests.tools.test_adapter import RANK, close, export
from videodpo.tools.adapter.formats import known_formats

OTHERS = (
    "wan-2.2-a14b",
    "cogvideox-5b",
    "hunyuan_video15",
    "ltx_video",
    "text_to_video_sd",
    "videocrafter2",
    "t2v_turbo",
)


@pytest.fixture(scope="module", params=OTHERS)
def family(request):
    return FAMILIES[request.param]


def test_a_trained_distilled_lora_replaces_the_authors_file(paired, tmp_path):
    """T2V-Turbo with `distilled_lora: trained`: every format, also the authors' list of matrices."""
    family = FAMILIES["t2v_turbo"]
    run = Trained(
        paired, family, write(family, tmp_path), tmp_path / "results", lora={"rank": RANK}, trained_turbo=True
    )
    assert known_formats(run.settings) == ["diffusers", "original", "merged"]
    expected = aligned_weights(run.networks["unet"])
    for name in known_formats(run.settings):
        out = export(run, name, tmp_path)
        close(aligned_weights(run_example(out)["pipe"].unet), expected, name)
    assert torch.equal(torch.load(out / "unet_lora.pt")[0], torch.load(tmp_path / "original" / "unet_lora.pt")[0])
