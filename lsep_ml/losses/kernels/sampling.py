"""Pairs and violators drawn at random, for the losses' sampled variants."""

import torch
from torch import Tensor

from lsep_ml.losses.kernels.labels import FAR, Labels


def sampled_pairs(
    scores: Tensor, labels: Labels, max_pairs: int, generator: torch.Generator | None
) -> Tensor:
    """Draw at most t = `max_pairs` pairs of each row, and give their f_v - f_u (N, t).

    A row with at most t pairs has them all, and about -1e30 in the other columns; of more, t are drawn uniformly
    without replacement. Time and memory are linear in K and in t: a row's pairs are numbered, pair j being that of
    positive j // |not-Y| and negative j % |not-Y|, and distinct numbers are drawn.

    Raises:
        ValueError: max_pairs below 1.
    """
    if max_pairs < 1:
        raise ValueError(f"max_pairs={max_pairs}: expected at least 1, or None for all pairs")
    positives, negatives = labels.positives(scores), labels.negatives(scores)
    is_positive, is_negative = positives < FAR / 2, negatives > -FAR / 2
    num_negatives = is_negative.sum(1, keepdim=True)
    num_pairs = is_positive.sum(1, keepdim=True) * num_negatives
    numbers = _distinct(num_pairs, max_pairs, scores.device, generator)
    of_positive = numbers.div(num_negatives.clamp(min=1), rounding_mode="floor")
    f_u = positives.gather(1, _places(is_positive, of_positive))
    f_v = negatives.gather(1, _places(is_negative, numbers % num_negatives.clamp(min=1)))
    drawn = torch.arange(max_pairs, device=scores.device) < num_pairs
    return torch.where(drawn, f_v - f_u, -FAR)


def _places(members: Tensor, numbers: Tensor) -> Tensor:
    """Find where, in each row of bool `members` (N, K), those of the given `numbers`, counted from 0, stand: (N, t)."""
    places = torch.searchsorted(members.cumsum(1), numbers + 1)
    return places.clamp(max=members.shape[1] - 1)  # the number of a pair that is not there


def _distinct(sizes: Tensor, count: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw min(count, size) distinct integers of 0 ... size - 1 for each row, into its first columns of (N, count).

    sizes: int64 (N, 1). Every subset is equally likely: nothing below tells one integer from another. Where more than
    half of the integers are wanted, those to leave out are drawn instead, so that a new draw is rarely an old one.
    """
    wanted = sizes.clamp(max=count)
    fewer = torch.minimum(wanted, sizes - wanted)
    drawn = _drawn_without_repeats(sizes, fewer, count, device, generator)
    columns = torch.arange(count, device=device)
    # At most 2 * count integers where some are left out: those not drawn, in the first columns.
    left_out = torch.zeros(len(sizes), 2 * count + 1, dtype=torch.bool, device=device)
    left_out.scatter_(1, torch.where(columns < fewer, drawn, 2 * count).clamp(max=2 * count), True)
    kept = left_out[:, :-1].sort(dim=1, stable=True).indices[:, :count]
    return torch.where(fewer < wanted, kept, drawn)


def _drawn_without_repeats(
    sizes: Tensor, wanted: Tensor, count: int, device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Draw distinct integers of 0 ... size - 1 into the first `wanted` <= size / 2 columns of (N, count), else -1."""
    columns = torch.arange(count, device=device)
    missing = columns < wanted
    numbers = torch.full((len(sizes), count), -1, device=device)
    while missing.any():
        # The remainder of 63 random bits: no integer is favoured by more than 1 part in 2^63 / size.
        fresh = torch.randint(2**63 - 1, numbers.shape, device=device, generator=generator) % sizes.clamp(
            min=1
        )
        numbers = torch.where(missing, fresh, numbers)
        ascending, order = numbers.sort(dim=1, stable=True)
        repeats = torch.nn.functional.pad(ascending[:, 1:] == ascending[:, :-1], (1, 0))
        missing = torch.zeros_like(missing).scatter(1, order, repeats) & (columns < wanted)
    return numbers
