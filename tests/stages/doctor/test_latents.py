"""A common fault, latents multiplied by the VAE's standard deviation, with a trained VAE: the demo's."""

import random

import pytest
import torch

from tests.conftest import ROOT
from videodpo.config import Model
from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.render import render
from videodpo.models.wan import WanModel
from videodpo.stages.doctor.latents import Clip, check_latents


@pytest.fixture(scope="module")
def model():
    settings = Model(
        family="wan", weights=str(ROOT / "demo" / "text_to_video"), dtype="float32", max_sequence_length=32
    )
    return WanModel(settings, "cpu")


@pytest.fixture(scope="module")
def clips(model):
    """Clips as sampling writes them: latents, and the frames that they decode to."""
    world = random.Random(5)
    found = []
    for name in ("winner", "loser"):
        latents = model.encode(render(random_scene(world), world))[None]
        found.append(Clip(name, latents, model.decode(latents)[0], False))
    return found


def found(model, clips):
    return {finding.check: finding for finding in check_latents(model, clips)}


def rescaled(clips, change):
    return [clip._replace(latents_1CFHW=change(clip.latents_1CFHW)) for clip in clips]


def std(model):
    return torch.tensor(model.pipe.vae.config.latents_std).view(1, -1, 1, 1, 1)


def test_latents_of_a_trained_vae_are_fine(model, clips):
    assert {finding.status for finding in found(model, clips).values()} == {"fine"}


def test_latents_multiplied_by_the_std(model, clips):
    """They should have been divided by it."""
    findings = found(model, rescaled(clips, lambda latents: latents * std(model) ** 2))
    assert findings["latents_fit_clips"].status == "alarm"
    assert "divided twice by the VAE's standard deviation" in findings["latents_fit_clips"].advice


def test_latents_that_were_not_normalised(model, clips):
    findings = found(model, rescaled(clips, model.unscale))
    assert findings["latents_fit_clips"].status == "alarm"
    assert "divided by the VAE's standard deviation" in findings["latents_fit_clips"].advice


def test_an_encoder_that_multiplies_by_the_std(model, clips, monkeypatch):
    monkeypatch.setattr(model, "scale", lambda raw: WanModel.scale(model, raw) * std(model) ** 2)
    findings = found(model, clips)
    assert {name for name, finding in findings.items() if finding.status == "alarm"} == {"vae_round_trip"}


def test_clips_of_another_run(model, clips):
    noise = [clip._replace(frames_TYXC=255 - clip.frames_TYXC[:, ::-1]) for clip in clips]
    assert found(model, noise)["latents_fit_clips"].status == "alarm"
