"""Statistics of Markov chains and of weights, for numbers of any origin: this room knows no lattice."""

from lattice_flows.statistics.control_variates import Improved, check_enough, improved
from lattice_flows.statistics.convergence import r_hat
from lattice_flows.statistics.correlators import ImprovedSlices, connected, effective_masses, improved_slices
from lattice_flows.statistics.derived import creutz_ratios, effective_potential, susceptibility, t0, w0
from lattice_flows.statistics.estimate import (
    Autocorrelation,
    Estimate,
    autocorrelation,
    estimate,
    observables_to_pyerrors,
)
from lattice_flows.statistics.moves import Moves, acceptance, longest_rejection_run
from lattice_flows.statistics.pulls import Pulls, pulls_of
from lattice_flows.statistics.resampling import Derived, bootstrap, jackknife
from lattice_flows.statistics.reweighting import Reweighted, reweight
from lattice_flows.statistics.sample_size import estimate_ess
from lattice_flows.statistics.weights import ParetoTail, ess, ess_error, forward_ess, pareto_tail

__all__ = [
    "Autocorrelation", "Derived", "Estimate", "Improved", "ImprovedSlices", "Moves", "ParetoTail", "Pulls",
    "Reweighted", "acceptance", "autocorrelation", "bootstrap", "check_enough", "connected", "creutz_ratios",
    "effective_masses", "effective_potential", "ess", "ess_error", "estimate", "estimate_ess", "forward_ess",
    "improved", "improved_slices", "jackknife", "longest_rejection_run", "observables_to_pyerrors", "pareto_tail",
    "pulls_of", "r_hat", "reweight", "susceptibility", "t0", "w0",
]  # fmt: skip
