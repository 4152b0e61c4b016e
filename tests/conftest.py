"""Being here, this file lets tests import what they share, such as `report_runs`, whichever of them are run."""
