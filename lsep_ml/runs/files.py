"""Every file of a run's folder, and what else lies in the output folder, by name."""

RUNS, STORE, SWEEPS = "runs", "store", "sweeps"
"""The folders below the output folder: of runs, of what they share, and of sweeps while their jobs run."""

RESULT = "result.json"
"""The record: what was run, with what, and the metrics; the last to be written, with a checksum of the others."""

CHECKPOINT = "checkpoint.ckpt"
"""The trained network, in torch's format."""

DECISION, DECISION_WEIGHTS = "decision.json", "decision.safetensors"
"""The fitted decision, and its tensors where it has many."""

HISTORY = "history.csv"
"""A row for each epoch and stage."""

PER_CLASS = "per_class.csv"
"""What the test split says of each label."""

FEATURE_MAP = "feature_map.npz"
"""Where test images lie by their features, in two coordinates."""

HEAT_MAPS = "heat_maps.npz"
"""Scores of labels at the places of test images."""

TEST, VALIDATION = "predictions.npz", "validation.npz"
"""Scores, targets and label sets of a split."""

THUMBNAILS = "thumbnails.npz"
"""Small copies of the test images that a report shows."""

SPLIT = "split.json"
"""The images of each split."""

CLASS_F1, GALLERY, PRECISION_RECALL = "class_f1.png", "gallery.png", "precision_recall.png"
"""The figures."""

FOLDS = "folds"
"""The runs of the folds, a folder each, of a run with `data.folds`."""

RANK_LOG = "run.rank{}.log"
"""The log of a process other than the first, by its rank."""

UNFINISHED = "unfinished.json"
"""The stored results that a run works on, by kind; gone when it has its result."""

ERROR = "error.json"
"""Why a job failed, and what it was called with."""

HYDRA = ".hydra"
"""The folder in which Hydra keeps what it was called with."""

OVERRIDES = f"{HYDRA}/overrides.yaml"
"""What Hydra was called with."""

WANDB = "wandb"
"""The folder of W&B's own files."""

CALLED = "called.json"
"""In the folder of a sweep: the overrides that all its jobs have."""

MULTIRUN = "multirun.yaml"
"""What Hydra keeps of a sweep, in the folder of its runs."""

SEALED = {".json", ".npz", ".csv", ".ckpt", ".safetensors"}
"""The endings of the files whose checksums the record holds."""
