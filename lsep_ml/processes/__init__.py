"""The processes that work on one job: started, joined, ended."""
