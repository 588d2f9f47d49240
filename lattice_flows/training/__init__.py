"""Training: estimators of gradients, and a loop that yields records."""

from lattice_flows.errors import moved
from lattice_flows.training.loop import StepRecord, TrainingState, select_device, train
from lattice_flows.training.losses import (
    ESTIMATORS,
    Divergence,
    forward_path,
    likelihood,
    log_ratio,
    path,
    reinforce,
    reparametrisation,
)
from lattice_flows.training.quality import Quality, fresh_log_weights, pooled_ess
from lattice_flows.training.soap import SOAP
from lattice_flows.training.stages import Stage, learning_rate, total_steps, whole_flow

__all__ = [
    "ESTIMATORS", "SOAP", "Divergence", "Quality", "Stage", "StepRecord", "TrainingState", "forward_path",
    "fresh_log_weights", "learning_rate", "likelihood", "log_ratio", "path", "pooled_ess", "reinforce",
    "reparametrisation", "select_device", "total_steps", "train", "whole_flow",
]  # fmt: skip

__getattr__ = moved(
    __name__,
    {
        "ForwardKL": "Divergence",
        "ReverseKL": "Divergence",
        "split": "split of lattice_flows.planar.splits",
        "stages": "level_stages of lattice_flows.planar.level_training, and whole_flow",
    },
)
