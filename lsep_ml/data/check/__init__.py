"""The check of a data set on disk."""
