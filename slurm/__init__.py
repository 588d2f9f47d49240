"""Runs on a Slurm cluster: job scripts, site profiles, and what submits and watches jobs."""
