"""Trains every bundled model from scratch, on two cores, and prints the numbers of the model cards.

python -m demo.recipe.all [--figures-only] [--num-clips 256]
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

THREADS = "1"  # per process: two trainings share two cores, and the weights depend on the number of threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures-only", action="store_true", help="train nothing, measure the saved weights")
    parser.add_argument("--num-clips", type=int, default=256, help="clips sampled to measure the text-to-video model")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = THREADS  # set before torch is imported, here and in the child processes
    if not arguments.figures_only:
        _train_all()
    for card, values in figures(arguments.num_clips).items():
        print(f"demo/{card}/README.md\n\n| figure | value |\n|---|---|")
        print("".join(f"| {name} | {value:.4g} |\n" for name, value in values.items()))


def figures(num_clips: int) -> dict[str, dict[str, float]]:
    """Numbers for every model card, measured on the saved weights."""
    from diffusers import AutoencoderKLWan

    from demo.recipe import clip, judge, text_to_video, vae

    generator = vae.figures(AutoencoderKLWan.from_pretrained(vae.OUT).eval())
    generator |= text_to_video.figures(num_clips=num_clips)
    return {"text_to_video": generator, "clip": clip.figures(), "judge": judge.figures()}


def _train_all() -> None:
    """Train in two processes. The decoder is polished while the denoiser trains, which only needs the encoder."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        autoencoder, scorers = pool.submit(_train_autoencoder), pool.submit(_train_scorers)
        autoencoder.result()
        for training in [pool.submit(_train_denoiser), pool.submit(_polish_decoder), scorers]:
            training.result()


def _train_autoencoder() -> None:
    from demo.recipe import vae

    _log_progress()
    vae.train()


def _polish_decoder() -> None:
    from demo.recipe import vae

    _log_progress()
    vae.polish()


def _train_denoiser() -> None:
    from demo.recipe import text_to_video

    _log_progress()
    text_to_video.train()


def _train_scorers() -> None:
    from demo.recipe import clip, judge

    _log_progress()
    clip.train()
    judge.train()


def _log_progress() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


if __name__ == "__main__":
    main()
