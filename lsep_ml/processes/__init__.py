"""The processes that work on one job: how they are started, exchange values, and end."""
