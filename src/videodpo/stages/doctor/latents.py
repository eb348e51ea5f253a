"""Checks of stored latents against the clips that they were decoded to, and against the VAE.

Legend: C latent channel, F latent frame, H latent height, W latent width; T frame, Y, X pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from videodpo.dpo.findings import Finding, Status, grade
from videodpo.models.base import VideoModel
from videodpo.models.shared.pipeline_model import PipelineModel

# Accepted standard deviation of latents. Denoisers are trained on latents normalised to 1; the demo has 0.9 to 1.5.
SMALLEST_STD, LARGEST_STD = 0.3, 3.0
# PSNR of decoded latents against the MP4, in dB. Measured: 29 to 41 in the demo and 26 for the noise of a random VAE
# (both from the codec's loss), 18 to 26 for latents multiplied by the demo VAE's std, 10 for another clip.
FITS, FITS_NOT = 25.0, 12.0
# Margin in dB from which rescaled latents, or those of the pair's other clip, fit better than the clip's own.
CLEARLY = 1.0
# Relative error of latents after decoding and re-encoding: 0.28 to 0.40 in the demo, 1 for a random VAE.
ROUND_TRIP = 0.5
# SAME: correlation from which a channel counts as recovered up to its scale. SCALE: largest accepted factor between the
# two scales; an error of std or 1 / std of the VAE exceeds it.
SAME, SCALE = 0.7, 1.5


class Clip(NamedTuple):
    """Winner or loser: its latents as the training reads them, [1, C, F, H, W], and its file's frames, [T, Y, X, 3]."""

    video_id: str
    latents_1CFHW: torch.Tensor
    frames_TYXC: np.ndarray
    is_imported: bool


def check_latents(model: VideoModel, clips: Sequence[Clip]) -> list[Finding]:
    """Check the latents of one pair's winner and loser."""
    statistics = _statistics(clips)
    if statistics.status == "alarm":
        return [statistics]
    with model.with_vae():
        decoded: list[np.ndarray] = []
        for clip in clips:
            (frames,) = model.decode(clip.latents_1CFHW)
            if frames is None:
                measured = f"the VAE decodes {clip.video_id} to NaN or infinite pixels"
                advice = "Check the weights of the VAE."
                return [statistics, Finding("latents_fit_clips", "alarm", measured, "finite pixels", advice)]
            decoded.append(frames)
        return [statistics, _fit(model, clips, decoded), _round_trip(model, clips, decoded)]


def _statistics(clips: Sequence[Clip]) -> Finding:
    values = torch.cat([clip.latents_1CFHW.flatten() for clip in clips]).float()
    mean, std = float(values.mean()), float(values.std())
    status: Status = "fine"
    if not math.isfinite(std):
        status = "alarm"
    elif not SMALLEST_STD <= std <= LARGEST_STD or abs(mean) > LARGEST_STD:
        status = "warning"
    advice = "Latents are not on the denoiser's scale: normalise them by the VAE's mean and standard deviation."
    expected = f"about 0 and 1; a standard deviation of {SMALLEST_STD:g} to {LARGEST_STD:g}"
    return Finding("latent_scale", status, f"mean {mean:+.2f}, standard deviation {std:.2f}", expected, advice, std)


def _fit(model: VideoModel, clips: Sequence[Clip], decoded: Sequence[np.ndarray]) -> Finding:
    """Check that decoded latents match their own clip, and better than rescaled or swapped latents do."""
    own = [_psnr(frames, clip.frames_TYXC) for frames, clip in zip(decoded, clips, strict=True)]
    expected = f"{FITS:g} dB or more, and better than any other scale or clip"
    measured = f"decoded latents against the MP4: {', '.join(f'{value:.1f} dB' for value in own)}"
    explained, best = max(_explanations(model, clips, decoded).items(), key=lambda entry: entry[1])
    if best > np.mean(own) + CLEARLY:
        advice = f"They fit better if {explained} ({best:.1f} dB on average). Re-run the stage generate."
        return Finding("latents_fit_clips", "alarm", measured, expected, advice, min(own))
    if min(own) < FITS_NOT and not any(clip.is_imported for clip in clips):
        advice = "They do not show the clip: the files belong to another run. Re-run the stage generate."
        return Finding("latents_fit_clips", "alarm", measured, expected, advice, min(own))
    advice = "The codec loses much (lower generate.sampling.crf), or the VAE does not suit such clips: look at them."
    return Finding("latents_fit_clips", grade(-min(own), -FITS), measured, expected, advice, min(own))


def _explanations(model: VideoModel, clips: Sequence[Clip], decoded: Sequence[np.ndarray]) -> dict[str, float]:
    """Possible faults, each with the mean PSNR in dB after undoing it."""
    scales: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "halved": partial(torch.mul, other=0.5),
        "doubled": partial(torch.mul, other=2.0),
    }
    if isinstance(model, PipelineModel):
        scales["divided by the VAE's standard deviation"] = model.scale
        scales["divided twice by the VAE's standard deviation"] = lambda latents: model.scale(model.scale(latents))
        scales["multiplied by the VAE's standard deviation"] = model.unscale
    tries = {name: [model.decode(change(clip.latents_1CFHW))[0] for clip in clips] for name, change in scales.items()}
    tries["compared with the pair's other clip: the files are swapped"] = list(reversed(decoded))
    return {
        name: float(np.mean([_psnr(frames, clip.frames_TYXC) for frames, clip in zip(found, clips, strict=True)]))
        for name, found in tries.items()
    }


def _round_trip(model: VideoModel, clips: Sequence[Clip], decoded: Sequence[np.ndarray]) -> Finding:
    """Check that re-encoding decoded latents recovers them: their scale always, their values if the VAE is good."""
    errors, slopes = [], []
    for clip, frames in zip(clips, decoded, strict=True):
        latents = clip.latents_1CFHW[0].float().cpu()
        again = model.encode(frames).float().cpu()
        errors.append(float((again - latents).norm() / latents.norm()))
        slopes += _slopes(latents, again)
    worst = max(errors)
    scale = float(np.exp(np.median(np.abs(np.log(slopes))))) if slopes else 1.0
    status: Status = "alarm" if scale > SCALE else grade(worst, ROUND_TRIP)
    measured = f"relative difference after decoding and encoding: {worst:.2f}; factor between the scales: {scale:.2f}"
    advice = (
        "Encoding and decoding use different scales: fix scale and unscale of the model family."
        if status == "alarm"
        else "The VAE does not reconstruct these latents. This affects imported clips only, not sampled ones."
    )
    expected = f"at most {ROUND_TRIP:g} and {SCALE:g}"
    return Finding("vae_round_trip", status, measured, expected, advice, worst)


def _slopes(latents_CFHW: torch.Tensor, again_CFHW: torch.Tensor) -> list[float]:
    """Scale factor of each channel that is recovered up to its scale."""
    found = []
    for one, other in zip(latents_CFHW.flatten(1), again_CFHW.flatten(1), strict=True):
        correlation = float(torch.corrcoef(torch.stack([one, other]))[0, 1])
        if correlation > SAME:
            found.append(float(other.std() / one.std()))
    return found


def _psnr(frames_TYXC: np.ndarray | None, others_TYXC: np.ndarray) -> float:
    """PSNR in dB, at most 99; 0 if the sizes differ or there are no finite pixels."""
    if frames_TYXC is None or frames_TYXC.shape != others_TYXC.shape:
        return 0.0
    error = float(np.square(frames_TYXC.astype(float) - others_TYXC).mean())
    return min(99.0, 10 * math.log10(255**2 / error)) if error else 99.0
