"""An exported adapter gives the same model in other tools as in this package.

The quick tier tests one family; tests/full/models/test_adapter_formats.py tests all others.
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.test_families import one_forward
from tests.support import original_names
from tests.support.adapters import Trained, aligned_weights, base_weights, load_like_comfyui, run_example
from tests.support.families import FAMILIES, write
from videodpo.config.errors import InputError
from videodpo.runtime import registry
from videodpo.tools.adapter import export_adapter
from videodpo.tools.adapter.examples import READ_BY_DIFFUSERS
from videodpo.tools.adapter.formats import FORMATS, known_formats
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
    """The code of the model card loads the aligned weights, and samples a clip where a pipeline exists."""
    run = train(**METHODS[method])
    aligned = {name: aligned_weights(network) for name, network in run.networks.items()}
    for name in known_formats(run.settings):
        out = export(run, name, tmp_path)
        if name == "comfyui":
            layout = COMFYUI[family.family]
            for (network, expected), file in zip(aligned.items(), sorted(out.glob("*.safetensors")), strict=True):
                layers = lora_layers(run.networks[network])
                base = {key: value for key, value in base_weights(run.networks[network]).items() if key in layers}
                found = load_like_comfyui(file, layout.convert_weights(base))
                close(found, layout.convert_weights({key: expected[key] for key in layers}), name)
            if family.family not in READ_BY_DIFFUSERS:
                assert "LoraLoaderModelOnly" in (out / "README.md").read_text()
                continue
        layout = ORIGINAL.get(family.family)
        if name == "original" and layout is not None:
            save_file(layout.convert_weights(base_weights(run.networks["transformer"])), out / "original.safetensors")
            close(run_example(out)["weights"], layout.convert_weights(aligned["transformer"]), name)
            continue
        pipe = run_example(out)["pipe"]
        for network, expected in aligned.items():
            close(aligned_weights(getattr(pipe, network)), expected, f"{name}, {network}")
        assert (out / "sample.gif").stat().st_size > 0


def lora_layers(network):
    """Names of the weights that a LoRA changes."""
    return {f"{name}.weight" for name, module in network.named_modules() if hasattr(module, "lora_A")}


def test_names_are_those_of_the_published_checkpoint(train, family, tmp_path):
    if family.family not in ORIGINAL:
        pytest.skip("no tool reads this family under other names")
    run = train(**METHODS["lora"])
    network = run.networks["transformer"]
    found = ORIGINAL[family.family].convert_weights(base_weights(network))
    assert found.keys() == original_names.ORIGINAL[family.family]
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


def test_a_format_that_no_tool_reads_is_refused_with_those_that_are_known(train, family, tmp_path):
    for method in METHODS:
        run = train(**METHODS[method])
        known = known_formats(run.settings)
        for name in set(FORMATS) - set(known):
            with pytest.raises(InputError) as refusal:
                export(run, name, tmp_path)
            assert str(refusal.value).startswith(f"--format {name}: no tool reads ")
            assert str(refusal.value).endswith(f"{family.family} in this format; use one of: {', '.join(known)}")
            assert not (tmp_path / name).exists()
