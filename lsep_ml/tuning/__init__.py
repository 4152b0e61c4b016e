"""Decisions for the scores of any model: compared, saved, applied."""
