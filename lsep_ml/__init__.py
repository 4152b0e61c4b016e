"""Multi-label image classification by pairwise ranking: losses, label decisions, metrics, and the whole experiment."""
