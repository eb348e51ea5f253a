"""The claims of tests/models/test_families.py for all other families, and those that need a compiler."""

import pytest
import torch

from tests.models.test_families import *  # noqa: F403
from tests.models.test_families import PROMPT, plain, run_plain, settings_of, texts, train
from tests.support.families import FAMILIES
from videodpo.config import Lora, TrainRuntime
from videodpo.dpo.policy import apply_memory_options
from videodpo.runtime import registry
from videodpo.stages.doctor.forward import NUM_STEPS, check_forward


@pytest.fixture(scope="module", params=[name for name in FAMILIES if name != "wan-2.1"])
def family(request):
    return FAMILIES[request.param]


def test_the_doctor_finds_that_predict_is_the_pipelines_call(load, family):
    model = load()
    model.add_lora(Lora(rank=4), seed=0)
    finding = check_forward(model, texts(model, PROMPT), family.sampling)
    assert finding.status == "fine", finding.line
    assert finding.measured.startswith(f"{NUM_STEPS} answers")


@pytest.mark.parametrize("family", ["cogvideox-2b"], indirect=True)
def test_guidance_grows_over_the_steps_as_in_the_pipeline(family, folder):
    settings = settings_of(family, folder).model_copy(update={"options": {"dynamic_guidance": True}})
    model = registry.load("videodpo.models", family.family)(settings, "cpu")
    found = model.sample(texts(model, PROMPT), [11], family.sampling)
    pipe, constant = plain(model, family, folder, output_type="latent")
    growing = run_plain(pipe, model, family, 11, output_type="latent", use_dynamic_cfg=True)
    torch.testing.assert_close(found, model.from_pipeline(growing, family.sampling), rtol=0, atol=1e-4)
    assert not torch.allclose(growing, constant(11), atol=1e-2)


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
