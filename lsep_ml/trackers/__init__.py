"""Experiment trackers: they are shown a run's history as it grows, then its record and its files."""

from lsep_ml.trackers.tracking import TensorBoardTracker, Tracker, Trackers, WandbTracker

__all__ = ["TensorBoardTracker", "Tracker", "Trackers", "WandbTracker"]
