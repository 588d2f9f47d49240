"""Jobs on Slurm clusters: scripts from the templates and sites in slurm/, `submit` and `status`."""
