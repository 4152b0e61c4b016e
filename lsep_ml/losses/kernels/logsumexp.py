"""The log-sum-exp of each row, kept as maximum and remainder."""

import math

from torch import Tensor
from torch.nn import functional as F

LOG2_E = math.log2(math.e)


def log_sum_exp(scores: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Compute m = max_j x_j, without gradient, and T log sum_j exp((x_j - m) / T) of each row x of `scores`, both (N,).

    Their sum is the row's log-sum-exp at the temperature T. They stay apart so that a difference of two of them keeps
    its digits when the scores are large.
    """
    largest = scores.detach().amax(1, keepdim=True)
    # exp(x) = 2^(x log2 e): exp itself can be ten times slower where it underflows, as here it mostly does.
    sums = ((scores - largest) * (LOG2_E / temperature)).exp2().sum(1)
    return largest.squeeze(1), temperature * sums.log()


def shifted_exp_(scores: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Compute m (N,) as `log_sum_exp` does, and write exp((x - m) / T), T = `temperature`, over `scores` (N, K)."""
    largest = scores.amax(1, keepdim=True)
    return largest.squeeze(1), scores.sub_(largest).mul_(LOG2_E / temperature).exp2_()


def softplus(x: Tensor) -> Tensor:
    """Compute log(1 + exp x) with finite derivatives of every order, for any `x`.

    torch's softplus becomes the identity at 20; logaddexp(x, 0) has no second derivative below -709 (float32: -44).
    """
    return -F.logsigmoid(-x)
