"""Training: the LightningModules, their trainer and its guard, checkpoints, resume, and what a person sees of it."""
