"""What a run leaves in its folder: every file by name, written and read in one place, and what is kept of all runs."""
