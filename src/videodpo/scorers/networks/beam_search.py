"""Beam search as in transformers 4.33, with which published captions were made.

Later versions divide the log-probability of a text by another length, so their best text may be another one.

Legend: P texts, K beams per text, N = P * K beams in all, L tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Text = tuple[float, list[int]]
"""Mean log-probability and tokens, with the prompt and without the end token."""


def best_texts(
    step: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    prompt: Sequence[int],
    *,
    num_texts: int,
    num_beams: int,
    min_length: int,
    max_length: int,
    end: int,
) -> list[Text]:
    """Find the most likely text for each of several inputs.

    Args:
        step: function of the tokens that follow those of the last call [N, L], and of the beam of the last call that
            each of them continues [N], to the logits of the next token [N, V].
        prompt: tokens at the beginning of all texts. They count for the lengths.
        num_texts: number of inputs, P.
        num_beams: number of beams for each text, K.
        min_length: number of tokens before the end token is allowed.
        max_length: number of tokens at which a text ends without the end token.
        end: the end token.
    """
    beams = [[list(prompt)] * num_beams for _ in range(num_texts)]
    ended: list[list[Text]] = [[] for _ in range(num_texts)]
    done = [False] * num_texts
    # All beams of a text are the same at first, so only one of them counts.
    sums_PK = torch.tensor([[0.0] + [-1e9] * (num_beams - 1)] * num_texts)
    tokens_NL = torch.tensor([list(prompt)] * (num_texts * num_beams))
    parents_N = torch.arange(num_texts * num_beams)
    for length in range(len(prompt), max_length):
        scores_NV = step(tokens_NL, parents_N).log_softmax(-1)
        if length < min_length:
            scores_NV[:, end] = -torch.inf
        sums_PM = (scores_NV + sums_PK.to(scores_NV.device).view(-1, 1)).view(num_texts, -1)
        best_sums, best_indices = (found.tolist() for found in sums_PM.topk(2 * num_beams))
        kept = []
        for text, (sums, indices) in enumerate(zip(best_sums, best_indices, strict=True)):
            ranked = [(total, *divmod(index, scores_NV.shape[1])) for total, index in zip(sums, indices, strict=True)]
            if not done[text]:
                ended[text] += [
                    (total / length, beams[text][beam]) for total, beam, token in ranked[:num_beams] if token == end
                ]
                ended[text] = sorted(ended[text], reverse=True)[:num_beams]
                done[text] = len(ended[text]) == num_beams and ended[text][-1][0] >= sums[0] / (length + 1)
            kept.append([one for one in ranked if one[2] != end][:num_beams])
        if all(done):
            break
        beams = [[beams[text][beam] + [token] for _, beam, token in continued] for text, continued in enumerate(kept)]
        sums_PK = torch.tensor([[total for total, _, _ in continued] for continued in kept])
        tokens_NL = torch.tensor([[token] for continued in kept for _, _, token in continued])
        parents_N = torch.tensor(
            [text * num_beams + beam for text, continued in enumerate(kept) for _, beam, _ in continued]
        )
    for text in range(num_texts):
        if not done[text]:
            sums = sums_PK[text].tolist()
            ended[text] += [(total / len(beam), beam) for total, beam in zip(sums, beams[text], strict=True)]
    return [max(texts) for texts in ended]
