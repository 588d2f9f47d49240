"""What a chain of configurations says: observables, their errors, and the exact values to compare with."""

from lattice_flows.measurement.charge import clover_charge
from lattice_flows.measurement.convergence import r_hat, split_r_hat
from lattice_flows.measurement.derived import creutz_ratios, effective_potential, susceptibility, t0, w0
from lattice_flows.measurement.exact import exact_value
from lattice_flows.measurement.field_strength import action_density, clover, plaquette_density
from lattice_flows.measurement.gamma import observables_to_pyerrors
from lattice_flows.measurement.gradient_flow import flow_history, flow_observables, gradient_flow
from lattice_flows.measurement.loops import wilson_loops
from lattice_flows.measurement.observables import (
    Observable,
    average_plaquette,
    polyakov_correlator,
    polyakov_loop,
    polyakov_loop_modulus,
    standard_observables,
    topological_charge,
    wilson_loop,
)
from lattice_flows.measurement.pareto import ParetoTail, pareto_tail
from lattice_flows.measurement.resampling import Derived, bootstrap, jackknife
from lattice_flows.measurement.reweighting import Reweighted, log_weights_in_beta, reweight
from lattice_flows.measurement.statistics import (
    Autocorrelation,
    Estimate,
    acceptance,
    autocorrelation,
    estimate,
    longest_rejection_run,
)
from lattice_flows.measurement.weights import ess, ess_error, forward_ess

__all__ = [
    "Autocorrelation",
    "Derived",
    "Estimate",
    "Observable",
    "ParetoTail",
    "Reweighted",
    "acceptance",
    "action_density",
    "autocorrelation",
    "average_plaquette",
    "bootstrap",
    "clover",
    "clover_charge",
    "creutz_ratios",
    "effective_potential",
    "ess",
    "ess_error",
    "estimate",
    "exact_value",
    "flow_history",
    "flow_observables",
    "forward_ess",
    "gradient_flow",
    "jackknife",
    "log_weights_in_beta",
    "longest_rejection_run",
    "observables_to_pyerrors",
    "pareto_tail",
    "plaquette_density",
    "polyakov_correlator",
    "polyakov_loop",
    "polyakov_loop_modulus",
    "r_hat",
    "reweight",
    "split_r_hat",
    "standard_observables",
    "susceptibility",
    "t0",
    "topological_charge",
    "w0",
    "wilson_loop",
    "wilson_loops",
]
