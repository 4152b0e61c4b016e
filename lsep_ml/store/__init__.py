"""What earlier runs left, found again by what made it."""
