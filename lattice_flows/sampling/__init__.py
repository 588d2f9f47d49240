"""Markov chains with the exact target."""

from lattice_flows.errors import moved
from lattice_flows.sampling.annealing import Annealed, Annealing
from lattice_flows.sampling.base import ChainState, Context, Proposal, Sampler, SamplerEntry, SweepInfo, start
from lattice_flows.sampling.cycle import Cycle, CycleInfo
from lattice_flows.sampling.heatbath import HeatBath, OverRelaxation
from lattice_flows.sampling.hmc import HMC, HMCInfo, Reversibility
from lattice_flows.sampling.independence import IndependenceInfo, IndependenceMetropolis
from lattice_flows.sampling.metropolis import Metropolis
from lattice_flows.sampling.stochastic_flow import StochasticFlow
from lattice_flows.sampling.tempering import ExchangeInfo, ReplicaExchange, Replicas, Tempered
from lattice_flows.sampling.transformed import Transformed, TransformedAction
from lattice_flows.sampling.tuning import Tunable
from lattice_flows.sampling.work import log_weights, log_z_ratio, weighted_mean
from lattice_flows.streams import Streams

__all__ = [
    "HMC", "Annealed", "Annealing", "ChainState", "Context", "Cycle", "CycleInfo", "ExchangeInfo", "HMCInfo",
    "HeatBath", "IndependenceInfo", "IndependenceMetropolis", "Metropolis", "OverRelaxation", "Proposal",
    "ReplicaExchange", "Replicas", "Reversibility", "Sampler", "SamplerEntry", "StochasticFlow", "Streams", "SweepInfo",
    "Tempered", "Transformed", "TransformedAction", "Tunable", "log_weights", "log_z_ratio", "start", "weighted_mean",
]  # fmt: skip

__getattr__ = moved(
    __name__,
    {
        "MetropolisInfo": "lattice_flows.sampling.base:SweepInfo",
        "SharedProposals": "lattice_flows.sampling.independence:SharedProposals",
    },
)
