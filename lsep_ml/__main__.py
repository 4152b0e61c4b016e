"""`python -m lsep_ml`."""

from lsep_ml.cli import main

main()
