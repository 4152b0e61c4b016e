"""Experiment trackers: they are shown a run's history as it grows, then its record and its files."""

from lsep_ml.trackers.tracker import LightningTracker, Tracker, Trackers
from lsep_ml.trackers.wandb_run import WandbTracker

__all__ = ["LightningTracker", "Tracker", "Trackers", "WandbTracker"]
