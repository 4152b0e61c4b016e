"""The main job: `python run.py loss=lsep decision=thresh_est data=nuswide`; `--help` explains the groups."""

from lsep_ml.stages.main import main

if __name__ == "__main__":
    main()
