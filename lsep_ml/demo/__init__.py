"""A page to try a classifier on."""
