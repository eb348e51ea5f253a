"""The DPO loss against numbers computed by hand."""

import numpy as np
import pytest
import torch

from videodpo.config.training import Objective
from videodpo.dpo.objectives import (
    auto_beta,
    denoising_errors,
    diffusion_dpo_loss,
    diffusion_dpo_loss_from_errors,
    preference_loss,
    residual_overlap,
)


def test_predictions_give_the_loss_of_their_errors():
    generator = torch.Generator().manual_seed(0)
    policy, reference, target = (torch.randn(6, 2, 3, 4, 4, generator=generator) for _ in range(3))
    errors = [(x - target).square().mean(dim=(1, 2, 3, 4)).chunk(2) for x in (policy, reference)]
    expected = diffusion_dpo_loss_from_errors(*errors[0], *errors[1], beta=10.0)
    result = diffusion_dpo_loss(policy, reference, target, beta=10.0)
    torch.testing.assert_close(result.per_pair, expected.per_pair)
    assert result.per_pair.shape == (3,)


def test_one_logit_per_video_for_any_number_of_dimensions():
    flat = torch.randn(4, 48)
    shaped = flat.view(4, 3, 2, 2, 4)
    target, reference = torch.zeros(4, 48), torch.ones(4, 48)
    a = diffusion_dpo_loss(flat, reference, target, beta=3.0)
    b = diffusion_dpo_loss(shaped, reference.view_as(shaped), target.view_as(shaped), beta=3.0)
    torch.testing.assert_close(a.margin, b.margin)


def test_errors_are_taken_in_float32():
    policy = torch.full((2, 1024), 1.0, dtype=torch.bfloat16)
    target = torch.full((2, 1024), 0.999, dtype=torch.float32)
    result = diffusion_dpo_loss(policy, policy * 0, target, beta=1.0)
    assert result.margin.dtype == torch.float32


@pytest.mark.parametrize("shape", [(3, 4), (0, 4)])
def test_a_batch_with_unequal_winners_and_losers_is_refused(shape):
    x = torch.zeros(shape)
    with pytest.raises(ValueError, match="winners and losers"):
        diffusion_dpo_loss(x, x, x, beta=1.0)
    with pytest.raises(ValueError, match="winners and losers"):
        residual_overlap(x, x)


def test_columns_keep_the_last_dimension():
    # [1, C 2, F 1, H 2, W 2]: squares of the left column 1, 9, 25, 49; of the right 4, 16, 36, 64
    prediction = torch.arange(1.0, 9.0).view(1, 2, 1, 2, 2)
    errors = denoising_errors(prediction, torch.zeros_like(prediction), per_column=True)
    assert errors.tolist() == [[21.0, 30.0]]
    assert denoising_errors(prediction, torch.zeros_like(prediction)).tolist() == [25.5]


def test_auto_beta_gives_the_logit_at_one_spread():
    # differences -0.1, 0.1, -0.1, 0.1: the standard deviation is 0.1
    ref_w, ref_l = np.array([0.2, 0.4, 0.3, 0.6], dtype=np.float32), np.array([0.3, 0.3, 0.4, 0.5], dtype=np.float32)
    beta = auto_beta(ref_w, ref_l, logit=10.0)
    assert beta == pytest.approx(200.0, rel=1e-6)
    apart = preference_loss(Objective(), *(torch.tensor([value]) for value in (0.4, 0.5, 0.5, 0.5)), beta=beta)
    assert apart.margin.item() == pytest.approx(10.0, rel=1e-5)


@pytest.mark.parametrize(
    ("ref_w", "ref_l"),
    [
        ([], []),
        ([0.5], [0.2]),
        ([0.1, 0.1, 0.1], [0.0, 0.0, 0.0]),
        ([0.1, float("nan")], [0.2, 0.1]),
        ([0.1, float("inf")], [0.2, 0.1]),
    ],
)
def test_auto_beta_refuses_errors_without_a_spread(ref_w, ref_l):
    with pytest.raises(ValueError, match="set train"):
        auto_beta(np.array(ref_w), np.array(ref_l), logit=10.0)


def test_columns_need_latents_of_videos():
    with pytest.raises(ValueError, match="per_column"):
        denoising_errors(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), per_column=True)


def test_auto_beta_refuses_winners_without_losers():
    with pytest.raises(ValueError, match="2"):
        auto_beta(np.zeros(2), np.zeros(3), logit=10.0)
