"""The network of CNN-RNN: which label comes next, and the most probable path of labels."""

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]  # an LSTM's h and c, (1, rows, hidden)
PADDING = -100  # cross_entropy leaves it out


class LabelPaths(nn.Module):
    """Models P(next label | image, labels so far) over the labels not yet named and END (Wang et al. 2016, section 3).

    Labels and images lie in one space of `size` dimensions: with w_k a label's embedding, o(t) the LSTM's output after
    the embeddings of the labels so far and I the image's features, the logit of label k is w_k . h(U_o o(t) + U_I I).
    END has an embedding too; h is ReLU (our choice). A path names no label twice, so labels named before are
    left out of the softmax, in training too (our choice); so are labels that no training image has. Features are
    standardised over the training images.
    """

    mean: Tensor
    std: Tensor
    unseen: Tensor

    def __init__(self, num_features: int, num_labels: int, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.num_labels = self.end = num_labels
        self.start = num_labels + 1
        self.embedding = nn.Embedding(num_labels + 2, size)  # labels, END, START
        self.lstm = nn.LSTM(size, hidden, batch_first=True)
        self.from_path = nn.Linear(hidden, size)
        self.from_image = nn.Linear(num_features, size)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))
        self.register_buffer("unseen", torch.zeros(num_labels, dtype=torch.bool))

    def prepare(self, features: Tensor, targets: Tensor) -> None:
        """Take what is not learnt, mean, deviation and unseen labels, from `features` (N, D) and `targets` (N, K)."""
        self.mean, self.std = features.mean(0), features.std(0, unbiased=False)
        self.std[self.std == 0] = 1.0
        self.unseen = ~targets.any(0)

    def image(self, features: Tensor) -> Tensor:
        """Compute U_I I, (N, size), of `features` (N, D)."""
        projected: Tensor = self.from_image(self.dropout((features - self.mean) / self.std))
        return projected

    def log_probabilities(
        self, image: Tensor, tokens: Tensor, named: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Compute log P of each next token, (N, T, K + 1) with END last, after `tokens` (N, T); and the LSTM's state.

        image: (N, size). named: bool (N, T, K), the labels that each position must not name again.
        """
        output, state = self.lstm(self.embedding(tokens), state)
        joint = torch.relu(self.from_path(self.dropout(output)) + image[:, None])
        logits = joint @ self.embedding.weight[: self.end + 1].T
        barred = nn.functional.pad(named | self.unseen, (0, 1))  # END can always come
        return logits.masked_fill(barred, -torch.inf).log_softmax(-1), state

    def loss(self, features: Tensor, paths: Tensor) -> Tensor:
        """Compute -log P of each of `paths`, summed over its steps, and its mean over the images.

        features (N, D); paths (N, T): labels, then END, then PADDING.
        """
        before = torch.full_like(paths[:, :1], self.start)
        tokens = torch.cat([before, paths[:, :-1]], 1).clamp(min=0)  # what follows END enters no term
        steps = nn.functional.one_hot(tokens, self.start + 1)[..., : self.num_labels]
        log_p, _ = self.log_probabilities(self.image(features), tokens, steps.cumsum(1) > 0)
        # a padding token may be named already; its -inf is left out by ignore_index
        total = nn.functional.nll_loss(
            log_p.flatten(0, 1), paths.flatten(), ignore_index=PADDING, reduction="sum"
        )
        return total / len(paths)

    @torch.no_grad()
    def most_probable(self, features: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Find each image's most probable path by beam search: its labels, bool (N, K), and its log P, (N,).

        The `width` best unfinished paths of each step are extended; END finishes any of them. It stops when no
        unfinished path is more probable than the best finished one, as every step can only lower a path's
        probability: with a width of all paths it is exact.
        """
        rows, labels = len(features), self.num_labels
        image = self.image(features).repeat_interleave(width, 0)
        tokens = torch.full((rows * width, 1), self.start)
        named = torch.zeros(rows, width, labels, dtype=torch.bool)
        score = torch.full((rows, width), -torch.inf)
        score[:, 0] = 0.0  # one path at first
        best, best_set = torch.full((rows,), -torch.inf), torch.zeros(rows, labels, dtype=torch.bool)
        state: State | None = None
        each = torch.arange(rows)
        for _ in range(labels + 1):
            flat = named.reshape(rows * width, 1, labels)
            log_p, state = self.log_probabilities(image, tokens, flat, state)
            extended = score[..., None] + log_p.reshape(rows, width, labels + 1)
            finished, place = extended[..., self.end].max(1)
            better = finished > best
            best = torch.where(better, finished, best)
            best_set[better] = named[each, place][better]
            score, chosen = extended[..., : self.end].flatten(1).topk(width)
            if (score[:, 0] <= best).all():
                break
            parent, label = chosen // labels, chosen % labels
            named = named.gather(1, parent[..., None].expand(-1, -1, labels)).scatter(
                2, label[..., None], True
            )
            tokens = label.reshape(-1, 1)
            source = (each[:, None] * width + parent).flatten()
            state = (state[0][:, source], state[1][:, source])
        return best_set, best
