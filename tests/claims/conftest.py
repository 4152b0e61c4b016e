"""The claims' scripts are no package: their folder is looked in for modules, as when they are run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "claims"))
