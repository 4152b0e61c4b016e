"""Set before torch is loaded: waiting threads sleep, as in run.py, so that tests beside other work stay quick."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
