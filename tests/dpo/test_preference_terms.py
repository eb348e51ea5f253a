"""Every objective against numbers computed by hand, and its gradient against finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F

from videodpo.config.training import Objective
from videodpo.dpo.objectives import (
    denoising_errors,
    diffusion_dpo_loss_from_errors,
    preference_loss,
    residual_overlap,
)
from videodpo.dpo.preference_terms import mapo, sdpo_scale

# policy_w, policy_l, ref_w, ref_l: D = (0.4 - 0.6) - (0.5 - 0.45) = -0.25; at beta 8 the margin is -4 * D = 1.
ERRORS = (0.4, 0.6, 0.5, 0.45)
LOG_SIGMOID_1 = -0.3132616875182228
LOG_SIGMOID_MINUS_1 = -1.3132616875182228


def _changed(value):
    """Test id: the options of an objective that differ from the defaults."""
    return str(value.model_dump(exclude_defaults=True)) if isinstance(value, Objective) else None


def _numbers(*values):
    return [torch.tensor([value], dtype=torch.float64) for value in values]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Objective(), -LOG_SIGMOID_1),
        (Objective(label_smoothing=0.1), -0.9 * LOG_SIGMOID_1 - 0.1 * LOG_SIGMOID_MINUS_1),
        (Objective(loss="ipo"), 0.25),  # (1 - 1/2)^2, which is 4^2 (0.25 - 1 / 8)^2
        (Objective(loss="hinge"), 0.0),  # at its corner
        (Objective(loss="sft"), 0.4),
        (Objective(sft_weight=0.5), -LOG_SIGMOID_1 + 0.2),
        (Objective(loss="ipo", sft_weight=2.0), 1.05),
    ],
    ids=_changed,
)
def test_loss_is_weight_times_the_hand_computed_number(objective, expected):
    result = preference_loss(objective, *_numbers(*ERRORS), beta=8.0, weight=torch.tensor([3.0]))
    assert result.loss.item() == pytest.approx(3 * expected, abs=1e-14)
    assert result.margin.item() == pytest.approx(1.0, abs=1e-14)
    assert result.accuracy.item() == 1.0


@pytest.mark.parametrize(("policy_w", "expected"), [(0.7, 1.2), (0.5, 0.4), (0.3, 0.0)])
def test_hinge_falls_to_zero_at_a_margin_of_one(policy_w, expected):
    # D = policy_w - 0.65; margins -0.2, 0.6, 1.4
    result = preference_loss(Objective(loss="hinge"), *_numbers(policy_w, 0.6, 0.5, 0.45), beta=8.0)
    assert result.loss.item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("beta", [2.0, 50.0, 5000.0])
def test_ipo_is_least_at_a_margin_of_one_half_for_every_beta(beta):
    zero = torch.zeros(1, dtype=torch.float64)
    lead = torch.tensor([1 / beta], dtype=torch.float64, requires_grad=True)
    result = preference_loss(Objective(loss="ipo"), -lead, zero, zero, zero, beta=beta)
    result.loss.backward()
    assert lead.grad.item() == 0.0
    assert result.margin.item() == pytest.approx(0.5)


def test_mapo_equals_the_hand_computed_number_and_ignores_the_reference():
    # x = 0.2 and 0.3; at beta 10 the logit is 0.458423
    score_w, score_l = 0.2 / (math.exp(0.2) - 1), 0.3 / (math.exp(0.3) - 1)
    expected = 0.4 + 0.1 * math.log(1 + math.exp(-10 * (score_w - score_l)))
    assert (score_w, score_l) == (pytest.approx(0.9033311, abs=1e-7), pytest.approx(0.8574888, abs=1e-7))
    for reference in ((0.5, 0.45), (0.1, 9.0)):
        result = preference_loss(Objective(loss="mapo"), *_numbers(0.4, 0.6, *reference), beta=10.0)
        assert result.loss.item() == pytest.approx(expected, abs=1e-14)


def test_a_mapo_step_lowers_the_winners_error_and_raises_the_losers():
    winner, loser = (torch.tensor([value], requires_grad=True) for value in (0.4, 0.6))
    mapo(winner, loser, beta=10.0, weight=0.1).sum().backward()
    assert winner.grad.item() > 1.0  # the winner's error alone gives 1
    assert loser.grad.item() < 0.0


@pytest.mark.parametrize(
    ("error", "score", "slope"),
    [
        (0.0, 1.0, -0.25),  # o = 1 - x / 2 + x^2 / 12 with x = e / 2
        (1e-12, 1.0, -0.25),
        (1e-4, 1 - 2.5e-5, -0.25 + 0.5 * 5e-5 / 6),
        (100.0, 0.0, 0.0),
        (1e6, 0.0, 0.0),
        (1e30, 0.0, 0.0),
    ],
)
def test_mapo_is_finite_in_float32_near_zero_and_for_large_errors(error, score, slope):
    # The loser's score is 0, so that the loss is e + ln(1 + exp(-o)) and its slope 1 - o' / (1 + exp(o)).
    winner = torch.tensor([error], requires_grad=True)
    loss = mapo(winner, torch.tensor([1e20]), beta=1.0, weight=1.0)
    loss.sum().backward()
    assert loss.item() == pytest.approx(error + math.log(1 + math.exp(-score)), rel=1e-6)
    assert winner.grad.item() == pytest.approx(1 - slope / (1 + math.exp(score)), rel=1e-6)


@pytest.mark.parametrize("error", [0.1999, 0.2001])
def test_mapo_is_smooth_where_the_series_ends(error):
    winner = torch.tensor([error], dtype=torch.float64, requires_grad=True)
    mapo(winner, torch.tensor([1e9], dtype=torch.float64), beta=1.0, weight=1.0).sum().backward()
    x = error / 2
    score = x / math.expm1(x)
    slope = 0.5 * (1 / math.expm1(x) - x * math.exp(x) / math.expm1(x) ** 2)
    assert winner.grad.item() == pytest.approx(1 - slope / (1 + math.exp(score)), abs=1e-9)


@pytest.mark.parametrize(
    "objective",
    [
        Objective(),
        Objective(label_smoothing=0.2, sft_weight=0.3),
        Objective(loss="ipo"),
        Objective(loss="ipo", sft_weight=0.3),
        Objective(loss="hinge"),
        Objective(loss="hinge", sft_weight=0.3),
        Objective(loss="sft"),
        Objective(loss="mapo"),
    ],
    ids=_changed,
)
@pytest.mark.parametrize("shape", [(3,), (3, 4)])
def test_gradient_agrees_with_finite_differences(objective, shape):
    generator = torch.Generator().manual_seed(1)
    policy_w, policy_l, ref_w, ref_l = (torch.rand(shape, dtype=torch.float64, generator=generator) for _ in range(4))
    weight = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    inputs = (policy_w.requires_grad_(), policy_l.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda w, losers: preference_loss(objective, w, losers, ref_w, ref_l, beta=3.0, weight=weight).loss, inputs
    )


def test_label_smoothing_treats_both_sides_alike():
    # Swapping winner and loser equals swapping the shares of right and wrong labels.
    errors = _numbers(*ERRORS)
    swapped = [errors[1], errors[0], errors[3], errors[2]]
    smoothed = [
        preference_loss(Objective(label_smoothing=0.25), *values, beta=8.0).loss.item() for values in (errors, swapped)
    ]
    assert smoothed[0] == pytest.approx(-0.75 * LOG_SIGMOID_1 - 0.25 * LOG_SIGMOID_MINUS_1, abs=1e-14)
    assert smoothed[1] == pytest.approx(-0.25 * LOG_SIGMOID_1 - 0.75 * LOG_SIGMOID_MINUS_1, abs=1e-14)


def test_defaults_equal_the_plain_dpo_loss_bit_for_bit():
    generator = torch.Generator().manual_seed(2)
    values = [torch.rand(64, generator=generator) for _ in range(4)]
    weight = torch.rand(64, generator=generator)
    winner, loser, ref_w, ref_l = values
    by_formula = weight * -F.logsigmoid(-0.5 * 5000.0 * ((winner - ref_w) - (loser - ref_l)))
    gradients = []
    for function in (lambda *x, **k: preference_loss(Objective(), *x, **k), diffusion_dpo_loss_from_errors):
        trained = [value.clone().requires_grad_() for value in values[:2]]
        result = function(*trained, *values[2:], beta=5000.0, weight=weight)
        result.loss.backward()
        gradients.append(torch.cat([value.grad for value in trained]))
        assert torch.equal(result.per_pair, by_formula)
        assert torch.equal(result.loss, by_formula.mean())
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", ["dpo", "ipo", "hinge", "sft", "mapo"])
def test_one_column_equals_one_error_per_video(name):
    generator = torch.Generator().manual_seed(3)
    values = [torch.rand(5, generator=generator) for _ in range(4)]
    weight = torch.rand(5, generator=generator)
    plain = preference_loss(Objective(loss=name), *values, beta=10.0, weight=weight)
    column = preference_loss(Objective(loss=name), *(value[:, None] for value in values), beta=10.0, weight=weight)
    torch.testing.assert_close(column.per_pair, plain.per_pair)
    torch.testing.assert_close(column.margin, plain.margin)


def test_each_column_has_a_logit_and_a_pair_has_the_mean_of_their_losses():
    # Margins 1 and -1 at beta 2: the pair's margin is 0; its loss is the mean over both logits, not of their mean.
    policy_w, other = torch.tensor([[0.0, 2.0]]), torch.ones(1, 2)
    result = preference_loss(Objective(), policy_w, other, other, other, beta=2.0, weight=torch.tensor([2.0]))
    assert result.margin.tolist() == [0.0]
    assert result.accuracy.item() == 0.0
    assert result.per_pair.tolist() == [pytest.approx(-(LOG_SIGMOID_1 + LOG_SIGMOID_MINUS_1))]


@pytest.mark.parametrize(
    ("error", "overlap", "mu", "expected"),
    [
        (0.5, 1.0, 0.0, 0.5),
        (0.5, 1.0, 0.6, 0.2),
        (0.5, 0.25, 0.0, 1.0),  # 2, clipped to 1
        (0.5, 0.0, 0.6, 1.0),
        (0.5, -1.0, 0.6, 1.0),
        (0.0, 0.0, 0.0, 1.0),
        (0.5, 1e-45, 0.0, 1.0),
    ],
)
def test_safeguard_scale_equals_the_hand_computed_number(error, overlap, mu, expected):
    assert sdpo_scale(torch.tensor([error]), torch.tensor([overlap]), mu).item() == pytest.approx(expected)


def _output_gradients(objective, prediction, target):
    """Loss of pairs whose reference errors are 1, and its gradient with respect to the prediction."""
    prediction = prediction.clone().requires_grad_()
    policy_w, policy_l = denoising_errors(prediction, target).chunk(2)
    ones = torch.ones_like(policy_w)
    overlap = residual_overlap(prediction, target)
    result = preference_loss(objective, policy_w, policy_l, ones, ones, beta=4.0, overlap=overlap)
    (gradient,) = torch.autograd.grad(result.per_pair.sum(), prediction)
    return result.per_pair.detach(), gradient


def _pairs():
    """Predictions and targets [8, 2, 3]; the losers' residuals are mostly twice the winners'."""
    generator = torch.Generator().manual_seed(4)
    target = torch.randn(8, 2, 3, generator=generator)
    residual = torch.randn(4, 2, 3, generator=generator)
    other = torch.randn(4, 2, 3, generator=generator)
    sign = torch.tensor([1.0, 1.0, 1.0, -1.0])[:, None, None]
    return target + torch.cat([residual, 2 * sign * residual + 0.3 * other]), target


@pytest.mark.parametrize("mu", [0.0, 0.6])
@pytest.mark.parametrize("name", ["dpo", "hinge"])
def test_safeguard_scales_the_losers_output_gradient_alone(name, mu):
    prediction, target = _pairs()
    value, plain = _output_gradients(Objective(loss=name), prediction, target)
    guarded_value, guarded = _output_gradients(Objective(loss=name, sdpo_mu=mu), prediction, target)
    assert torch.equal(guarded_value, value)
    output = prediction.clone().requires_grad_()
    (gradients,) = torch.autograd.grad((output - target).square().flatten(1).mean(dim=1).sum(), output)
    expected = []
    for g_w, g_l in zip(*gradients.chunk(2), strict=True):
        product = (g_w * g_l).sum().item()
        expected.append(min(1.0, (1 - mu) * g_w.square().sum().item() / product) if product > 0 else 1.0)
    assert expected[-1] == 1.0
    assert max(expected[:3]) < 1.0
    assert torch.equal(guarded[:4], plain[:4])
    torch.testing.assert_close(guarded[4:], torch.tensor(expected)[:, None, None] * plain[4:])


def test_the_loss_reports_the_safeguard_scale_of_each_pair():
    prediction, target = _pairs()
    errors = [*denoising_errors(prediction, target).chunk(2), torch.ones(4), torch.ones(4)]
    overlap = residual_overlap(prediction, target)
    guarded = preference_loss(Objective(sdpo_mu=0.0), *errors, beta=4.0, overlap=overlap)
    assert (guarded.safeguard < 1).tolist() == [True, True, True, False]
    assert preference_loss(Objective(), *errors, beta=4.0).safeguard is None


@pytest.mark.parametrize(("sdpo_mu", "rises"), [(None, True), (0.0, False), (0.6, False)])
def test_safeguard_keeps_a_step_in_output_space_from_raising_the_winners_error(sdpo_mu, rises):
    # Assume that both videos share the network's outputs: a step moves the winner's by the sum of both gradients.
    prediction, target = _pairs()
    _, gradient = _output_gradients(Objective(sdpo_mu=sdpo_mu), prediction, target)
    step = -gradient[:4] - gradient[4:]
    slope = (step * (prediction - target)[:4]).sum(dim=(1, 2))
    assert bool((slope[:3] > 1e-6).all()) == rises
    assert bool((slope <= 1e-6).all()) != rises


def test_overlap_of_a_winner_with_itself_is_its_error():
    generator = torch.Generator().manual_seed(5)
    prediction, target = (torch.randn(3, 2, 4, generator=generator) for _ in range(2))
    overlap = residual_overlap(prediction.repeat(2, 1, 1), target.repeat(2, 1, 1))
    torch.testing.assert_close(overlap, denoising_errors(prediction, target))


def test_overlap_is_the_mean_product_of_residuals():
    # winner's residuals (1, 2), loser's (3, -1): (3 - 2) / 2
    prediction = torch.tensor([[1.0, 2.0], [4.0, 0.0]], dtype=torch.bfloat16)
    overlap = residual_overlap(prediction, torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    assert overlap.tolist() == [0.5]
    assert overlap.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("policy_w", torch.ones(2, 3, 1)),
        ("policy_l", torch.ones(2, 1)),
        ("ref_w", torch.ones(3)),
        ("ref_l", torch.ones(())),
        ("weight", torch.ones(2, 3)),
        ("weight", torch.ones(3)),
    ],
)
def test_errors_and_weights_of_another_shape_are_refused(name, value):
    arguments = {key: torch.ones(2, 3) for key in ("policy_w", "policy_l", "ref_w", "ref_l")} | {name: value}
    with pytest.raises(ValueError, match=f"{name}: shape"):
        preference_loss(Objective(), **arguments, beta=1.0)


def test_safeguard_needs_an_overlap_for_every_pair():
    errors = [torch.ones(2)] * 4
    with pytest.raises(ValueError, match="overlap: None"):
        preference_loss(Objective(sdpo_mu=0.0), *errors, beta=1.0)
    with pytest.raises(ValueError, match="overlap"):
        preference_loss(Objective(sdpo_mu=0.0), *errors, beta=1.0, overlap=torch.ones(1))
    with pytest.raises(ValueError, match="both need"):
        sdpo_scale(torch.ones(2, 3), torch.ones(2, 3), 0.0)
