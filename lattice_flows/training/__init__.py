"""Training: estimators of the reverse KL gradient, and a loop that yields records."""

from lattice_flows.training.loop import StepRecord, TrainingState, select_device, train
from lattice_flows.training.losses import (
    ESTIMATORS,
    ForwardKL,
    ReverseKL,
    forward_path,
    likelihood,
    log_ratio,
    path,
    reinforce,
    reparametrisation,
)
from lattice_flows.training.schedule import learning_rate, stages, total_steps
from lattice_flows.training.soap import SOAP
from lattice_flows.training.splits import split

__all__ = [
    "ESTIMATORS",
    "SOAP",
    "ForwardKL",
    "ReverseKL",
    "StepRecord",
    "TrainingState",
    "forward_path",
    "learning_rate",
    "likelihood",
    "log_ratio",
    "path",
    "reinforce",
    "reparametrisation",
    "select_device",
    "split",
    "stages",
    "total_steps",
    "train",
]
