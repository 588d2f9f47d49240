"""A run is one folder; this room writes its files, and goes on with a run that was killed.

config.toml        the resolved settings, and the version that ran them
model.safetensors  the model that the run began from, if there was one
metrics.jsonl      one JSON object for each training step
trained.json       ESS, expected acceptance and cost of the flow where its training has ended
annealing.safetensors  the layers of an annealing, and what they are expected to do
checkpoint.pt      weights, optimizer and random states of the last `checkpoint_every` steps
thermalisation.pt  chains that are not in equilibrium yet
ensemble.h5        the Markov chains
sampling.jsonl     their costs, one JSON object for each commit
report.json  report.txt  figures/*.png

In an MPI world, rank 0 alone reads and writes in the folder, and sends the other ranks their part.
"""

from lattice_flows.reports.configurations import measure_configurations, verify_configurations
from lattice_flows.runs.anneal import anneal_run
from lattice_flows.runs.compare import compare_runs, comparison_table
from lattice_flows.runs.configurations import (
    convert_configuration,
    export_all,
    export_configuration,
    import_configuration,
)
from lattice_flows.runs.demo import demo
from lattice_flows.runs.ensembles import measure_files
from lattice_flows.runs.folder import load_model, load_run, trained_model
from lattice_flows.runs.measure import Wishes, measure_ensemble, measure_run, measure_start, measure_table
from lattice_flows.runs.models import export_run, start_run
from lattice_flows.runs.sample import sample_run, sampled_in_words
from lattice_flows.runs.show import show_run, training_progress
from lattice_flows.runs.train import train_run
from lattice_flows.runs.trained import read_trained

__all__ = [
    "Wishes", "anneal_run", "compare_runs", "comparison_table", "convert_configuration", "demo", "export_all",
    "export_configuration", "export_run", "import_configuration", "load_model", "load_run",
    "measure_configurations", "measure_ensemble", "measure_files", "measure_run", "measure_start", "measure_table",
    "read_trained", "sample_run", "sampled_in_words", "show_run", "start_run", "train_run", "trained_model",
    "training_progress", "verify_configurations",
]  # fmt: skip
