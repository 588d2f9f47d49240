"""Files of a run: checkpoints, ensembles in HDF5, metrics; each written so that a kill at any moment loses little."""

from lattice_flows.io.checkpoints import load_checkpoint, save_checkpoint
from lattice_flows.io.ensembles import Appender, Ensemble, appending
from lattice_flows.io.metrics import MetricsFile, read_metrics

__all__ = [
    "Appender",
    "Ensemble",
    "MetricsFile",
    "appending",
    "load_checkpoint",
    "read_metrics",
    "save_checkpoint",
]
