"""The claims of tests/models/test_families.py for all other families, and those that need a compiler."""

import pytest
import torch

from tests.models.test_families import *  # noqa: F403
from tests.models.test_families import PROMPT, texts, train
from tests.support.families import FAMILIES
from videodpo.config import Lora, TrainRuntime
from videodpo.dpo.policy import apply_memory_options
from videodpo.stages.doctor.forward import NUM_STEPS, check_forward


@pytest.fixture(scope="module", params=[name for name in FAMILIES if name != "wan-2.1"])
def family(request):
    return FAMILIES[request.param]


def test_the_doctor_finds_that_predict_is_the_pipelines_call(load, family):
    model = load()
    model.add_lora(Lora(rank=4), seed=0)
    finding = check_forward(model, texts(model, PROMPT), family.sampling)
    assert finding.status == "fine", finding.line
    assert finding.measured.startswith(f"{NUM_STEPS} outputs")


@pytest.mark.parametrize("family", ["cogvideox-2b", "text_to_video_sd"], indirect=True)
@torch._dynamo.config.patch(fail_on_recompile_limit_hit=True)
def test_compiled_layers_change_nothing(load, family):
    torch.compiler.reset()
    losses = []
    for compiled in (False, True):
        model = load()
        model.add_lora(Lora(rank=4), seed=0)
        apply_memory_options(model, TrainRuntime(compile=compiled))
        losses.append(train(model, family))
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
