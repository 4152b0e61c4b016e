"""What the tables and figures call the parts of a method."""

from lsep_ml.decisions.catalogue import DECISIONS as _DECISIONS

LOSSES = {
    "softmax": "Softmax",
    "ranking": "Ranking",
    "bpmll": "BP-MLL",
    "warp": "WARP",
    "cnn_rnn": "Wang et al. (CNN-RNN)",
    "br": "Binary relevance",
    "chain": "Classifier chain",
    "chain_ensemble": "Ensemble of chains",
    "powerset": "Label powerset",
    "mlknn": "ML-kNN",
    "bce": "Binary cross entropy",
    "focal": "Focal",
    "asl": "Asymmetric",
    "pairwise_logistic": "Pairwise logistic",
    "zlpr": "ZLPR",
    "lsep": "LSEP",
}
"""Losses, and predictors in their place, in the paper's order; what it lacks comes before its own method."""

DECISIONS = {row.key: row.name for row in _DECISIONS}
SHORT_DECISIONS = {row.key: row.short_name or row.name for row in _DECISIONS}


def loss_name(loss: str) -> str:
    return LOSSES.get(loss, loss)


def decision_name(decision: str) -> str:
    return DECISIONS.get(decision, decision)


def method_name(loss: str, decision: str) -> str:
    """A method as in the paper's Table 1: the loss, and the decision in brackets."""
    short = SHORT_DECISIONS.get(decision, decision)
    return f"{loss_name(loss)} ({short})" if short and short != "none" else loss_name(loss)


def method_order(method: tuple[str, str]) -> tuple[float, str, float, str]:
    """Sorts methods in the paper's order, LSEP last; what the paper lacks before LSEP, and after its decisions."""
    losses, decisions = list(LOSSES), list(DECISIONS)
    loss, decision = method
    return (
        losses.index(loss) if loss in losses else losses.index("lsep") - 0.5,
        loss,
        decisions.index(decision) if decision in decisions else len(decisions),
        decision,
    )
