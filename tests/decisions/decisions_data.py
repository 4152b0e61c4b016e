"""Synthetic scores with features that tell where their thresholds lie."""

import torch


def learnable(rows=400, features=20, labels=6, seed=0, scale=1.0):
    """Scores (N, K), targets (N, K) and features (N, D): scores are shifted by a part the features reveal."""
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(rows, 4, generator=generator)
    mixed = latent @ torch.randn(4, features, generator=generator)
    clean = latent @ torch.randn(4, labels, generator=generator) - 0.5
    shift = 3 * latent[:, :1]
    noise = 0.2 * torch.randn(rows, labels, generator=generator)
    return clean + shift + noise, clean > 0, scale * torch.relu(mixed)
