"""An exported adapter gives the same model in other tools as in this package.

The quick tier tests one family; tests/full/models/test_adapter_formats.py tests all others.
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.test_families import one_forward
from tests.support import original_names
from tests.support.adapters import FLOW_SHIFT, Trained, aligned_weights, base_weights, run_example, with_lora
from tests.support.families import FAMILIES, write
from tests.support.original_names import CONVERT_BACK
from videodpo.runtime import registry
from videodpo.tools.adapter import export_adapter
from videodpo.tools.adapter.examples import READ_BY_DIFFUSERS
from videodpo.tools.adapter.formats import known_formats
from videodpo.tools.adapter.layouts import COMFYUI, ORIGINAL

RANK = 2
METHODS = {"lora": {"lora": {"rank": RANK}}, "full": {"method": "full"}}
SCALES = {"alpha": {"alpha": 3.0}, "rslora": {"rslora": True}}


@pytest.fixture(scope="module", params=["wan-2.1"])
def family(request):
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def weights(family, tmp_path_factory):
    return write(family, tmp_path_factory.mktemp("model"))


@pytest.fixture
def train(paired, family, weights, tmp_path):
    return lambda **settings: Trained(paired, family, weights, tmp_path / "results", **settings)


def export(run, name, tmp_path):
    return export_adapter(run.folder, name, tmp_path / name)


def close(found, expected, message):
    assert found.keys() == expected.keys(), message
    for name, value in expected.items():
        torch.testing.assert_close(found[name].float(), value.float(), rtol=0, atol=3e-6, msg=f"{message}: {name}")


@pytest.mark.parametrize("method", METHODS)
def test_every_known_format_gives_the_aligned_model(train, family, tmp_path, method):
    run = train(**METHODS[method])
    aligned = {name: aligned_weights(network) for name, network in run.networks.items()}
    for name in known_formats(run.settings):
        out = export(run, name, tmp_path)
        if name in ("comfyui", "original") and family.family in ORIGINAL:
            for (network, expected), file in zip(aligned.items(), sorted(out.glob("*.safetensors")), strict=True):
                check_file(file, name, family.family, run.networks[network], expected, method)
        check_example(out, name, family.family, run, aligned)


def check_file(file, name, family, network, expected, method):
    """The weights of the base model under the format's names, with the file added, are the aligned weights."""
    layout = {"comfyui": COMFYUI, "original": ORIGINAL}[name][family]
    if method == "full":
        found = load_file(file)
    else:
        layers = {f"{key}.weight" for key, module in network.named_modules() if hasattr(module, "lora_A")}
        expected = {key: expected[key] for key in layers}
        base = {key: value for key, value in base_weights(network).items() if key in layers}
        found = with_lora(file, layout.convert_weights(base), "diffusion_model." if name == "comfyui" else "")
    close(found, layout.convert_weights(expected), name)


def check_example(out, name, family, run, aligned):
    """The code of the model card loads the aligned weights, and samples a clip where a pipeline exists."""
    if name == "comfyui" and family not in READ_BY_DIFFUSERS:
        assert "LoraLoaderModelOnly" in (out / "README.md").read_text()
    elif name == "original" and family in ORIGINAL:
        layout, (first, expected) = ORIGINAL[family], next(iter(aligned.items()))
        save_file(layout.convert_weights(base_weights(run.networks[first])), out / "original.safetensors")
        close(run_example(out)["weights"], layout.convert_weights(expected), name)
    else:
        pipe = run_example(out)["pipe"]
        for network, expected in aligned.items():
            close(aligned_weights(getattr(pipe, network)), expected, f"{name}, {network}")
        if run.settings.sampling.flow_shift is not None:
            assert pipe.scheduler.config.shift == FLOW_SHIFT
        assert (out / "sample.gif").stat().st_size > 0


def test_names_are_those_of_the_published_checkpoint(train, family, tmp_path):
    if family.family not in ORIGINAL:
        pytest.skip("no tool reads this family under other names")
    run = train(**METHODS["lora"])
    network = run.networks["transformer"]
    weights = base_weights(network)
    found = ORIGINAL[family.family].convert_weights(weights)
    assert found.keys() == original_names.ORIGINAL[family.family]
    back = CONVERT_BACK[family.family](dict(found))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], value) for name, value in weights.items())
    lora = load_file(sorted(export(run, "comfyui", tmp_path).glob("*.safetensors"))[0])
    modules = {key.removeprefix("diffusion_model.").rpartition(".lora_")[0] for key in lora if ".lora_" in key}
    assert modules <= original_names.COMFYUI[family.family]
    assert len(modules) > 1


def test_diffusers_reads_a_lora_for_comfyui_with_any_scale_and_gives_the_same_output(train, family, tmp_path):
    if family.family not in READ_BY_DIFFUSERS:
        pytest.skip("diffusers does not read this family under ComfyUI's names")
    for kind, lora in SCALES.items():
        run = train(lora={"rank": RANK, **lora})
        out = export_adapter(run.folder, "comfyui", tmp_path / kind)
        fresh = registry.load("videodpo.models", family.family)(run.settings.model, "cpu")
        for number, file in enumerate(sorted(out.glob("*.safetensors"))):
            second = {"load_into_transformer_2": True} if number else {}
            fresh.pipe.load_lora_weights(out, weight_name=file.name, **second)
        fresh.denoiser.eval()
        expected = one_forward(run.model, family)
        assert (expected - base_forward(run, family)).abs().max() > 1e-3
        torch.testing.assert_close(one_forward(fresh, family), expected, rtol=0, atol=1e-5)


def base_forward(run, family):
    with run.model.reference_weights():
        return one_forward(run.model, family)
