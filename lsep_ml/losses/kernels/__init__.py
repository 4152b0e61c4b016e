"""What the losses compute with: labels as two sides, log-sum-exp, counted violations, drawn pairs, fused gradients."""
