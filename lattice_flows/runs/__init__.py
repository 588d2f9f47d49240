"""A run is one folder; here is decided what is written where, and how a run goes on after it was killed.

config.toml        the resolved settings, and the version they were run with
model.safetensors  the model that the run began from, if there was one
metrics.jsonl      one JSON object a training step
checkpoint.pt      weights, optimizer and random states of the last `checkpoint_every` steps
thermalisation.pt  chains that are not in equilibrium yet
ensemble.h5        the Markov chains
sampling.jsonl     what they cost, one JSON object a commit
report.json  report.txt  figures/*.png

Of the ranks of an MPI world, rank 0 alone reads and writes in the folder; the others have from it what they need.
"""

from lattice_flows.runs.sample import sample_run
from lattice_flows.runs.train import train_run

__all__ = ["sample_run", "train_run"]
