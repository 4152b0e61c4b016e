"""The two thin LightningModules: label prediction (stage 1) and label decision (stage 2)."""
