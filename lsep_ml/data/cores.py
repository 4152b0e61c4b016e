"""How many processor cores this process may use."""

import os


def available_cores() -> int:
    """Count the cores in this process's affinity mask where the system tells, else all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
