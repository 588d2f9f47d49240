"""Files that outlive a kill: checkpoints, weights, ensembles, metrics, and configurations of other programs."""

from lattice_flows.io.chain_writer import ChainWriter, create_chains
from lattice_flows.io.chains import ChainFile
from lattice_flows.io.configurations import read_configuration, read_gauge_file, write_configuration
from lattice_flows.io.gauge.base import GaugeFile, Given
from lattice_flows.io.metrics import MetricsFile, read_metrics, read_report, write_report
from lattice_flows.io.tensors import load_checkpoint, load_weights, read_about, save_checkpoint, save_weights

__all__ = [
    "ChainFile", "ChainWriter", "GaugeFile", "Given", "MetricsFile", "create_chains", "load_checkpoint", "load_weights",
    "read_about", "read_configuration", "read_gauge_file", "read_metrics", "read_report", "save_checkpoint",
    "save_weights", "write_configuration", "write_report",
]  # fmt: skip
