"""Training: estimators of the reverse KL gradient, and a loop that yields records."""

from lattice_flows.training.loop import StepRecord, TrainingState, learning_rate, select_device, train
from lattice_flows.training.losses import ESTIMATORS, ReverseKL, path, reinforce, reparametrisation

__all__ = [
    "ESTIMATORS",
    "ReverseKL",
    "StepRecord",
    "TrainingState",
    "learning_rate",
    "path",
    "reinforce",
    "reparametrisation",
    "select_device",
    "train",
]
