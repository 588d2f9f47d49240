"""Markov chains with the exact target."""

from lattice_flows.sampling.annealed import Annealed, Annealing
from lattice_flows.sampling.base import ChainState, Sampler, start
from lattice_flows.sampling.cycle import Cycle, CycleInfo
from lattice_flows.sampling.heatbath import HeatBath, OverRelaxation, SweepInfo
from lattice_flows.sampling.hmc import HMC, HMCInfo, Reversibility
from lattice_flows.sampling.independence import IndependenceInfo, IndependenceMetropolis
from lattice_flows.sampling.metropolis import Metropolis, MetropolisInfo
from lattice_flows.sampling.shared import SharedProposals
from lattice_flows.sampling.tempering import ExchangeInfo, ReplicaExchange, Replicas
from lattice_flows.sampling.transformed import Transformed, TransformedAction
from lattice_flows.sampling.work import log_z_ratio, weighted_mean
from lattice_flows.streams import Streams

__all__ = [
    "HMC",
    "Annealed",
    "Annealing",
    "ChainState",
    "Cycle",
    "CycleInfo",
    "ExchangeInfo",
    "HMCInfo",
    "HeatBath",
    "IndependenceInfo",
    "IndependenceMetropolis",
    "Metropolis",
    "MetropolisInfo",
    "OverRelaxation",
    "ReplicaExchange",
    "Replicas",
    "Reversibility",
    "Sampler",
    "SharedProposals",
    "Streams",
    "SweepInfo",
    "Transformed",
    "TransformedAction",
    "log_z_ratio",
    "start",
    "weighted_mean",
]
