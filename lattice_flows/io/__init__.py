"""Files: checkpoints, weights, ensembles in HDF5, metrics; each written so that a kill at any moment loses little."""

from lattice_flows.io.checkpoints import load_checkpoint, save_checkpoint
from lattice_flows.io.ensembles import Appender, Ensemble, appending
from lattice_flows.io.metrics import MetricsFile, read_metrics
from lattice_flows.io.weights import load_weights, read_about, save_weights

__all__ = [
    "Appender",
    "Ensemble",
    "MetricsFile",
    "appending",
    "load_checkpoint",
    "load_weights",
    "read_about",
    "read_metrics",
    "save_checkpoint",
    "save_weights",
]
