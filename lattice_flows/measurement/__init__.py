"""What a chain of configurations says: observables, their errors, and the exact values to compare with."""

from lattice_flows.measurement.exact import exact_value
from lattice_flows.measurement.observables import (
    Observable,
    average_plaquette,
    polyakov_loop,
    polyakov_loop_modulus,
    standard_observables,
    topological_charge,
    wilson_loop,
)
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
    "Estimate",
    "Observable",
    "acceptance",
    "autocorrelation",
    "average_plaquette",
    "ess",
    "ess_error",
    "estimate",
    "exact_value",
    "forward_ess",
    "longest_rejection_run",
    "polyakov_loop",
    "polyakov_loop_modulus",
    "standard_observables",
    "topological_charge",
    "wilson_loop",
]
