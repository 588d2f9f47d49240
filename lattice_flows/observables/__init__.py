"""Observables: functions of configurations, with one number or array for each."""

from lattice_flows.observables.base import Observable, ObservableEntry, standard_observables
from lattice_flows.observables.field_strength import (
    action_density,
    clover,
    clover_charge,
    plaquette_density,
    topological_charge,
)
from lattice_flows.observables.loops import (
    average_plaquette,
    polyakov_correlator,
    polyakov_loop,
    polyakov_loop_modulus,
    polyakov_loops,
    space_like_plaquette,
    time_like_plaquette,
    wilson_loop,
    wilson_loops,
)
from lattice_flows.observables.scalar import (
    ising_energy,
    magnetisation,
    magnetisation_modulus,
    phi_squared,
    pole_mass,
    two_point_susceptibility,
    zero_momentum_correlator,
)
from lattice_flows.observables.schwinger_dyson import schwinger_dyson
from lattice_flows.observables.slices import slice_contact, slice_plaquettes, slice_zeros
from lattice_flows.observables.smeared_slices import smeared_slice_zeros
from lattice_flows.observables.smearing import Smearing, ape_smear, hyp_smear, stout_smear
from lattice_flows.observables.wilson_flow import flow_history, flow_observables, wilson_flow

__all__ = [
    "Observable", "ObservableEntry", "Smearing", "action_density", "ape_smear", "average_plaquette", "clover",
    "clover_charge", "flow_history", "flow_observables", "hyp_smear", "ising_energy", "magnetisation",
    "magnetisation_modulus", "phi_squared", "plaquette_density", "pole_mass", "polyakov_correlator", "polyakov_loop",
    "polyakov_loop_modulus", "polyakov_loops", "schwinger_dyson", "slice_contact", "slice_plaquettes", "slice_zeros",
    "smeared_slice_zeros", "space_like_plaquette", "standard_observables", "stout_smear", "time_like_plaquette",
    "topological_charge", "two_point_susceptibility", "wilson_flow", "wilson_loop", "wilson_loops",
    "zero_momentum_correlator",
]  # fmt: skip
