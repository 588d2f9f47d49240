"""Replica exchange in words: the swaps of neighbouring couplings, and the round trips of configurations."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lattice_flows.config import Config
from lattice_flows.io import ChainFile
from lattice_flows.reports.columns import columns
from lattice_flows.reports.words import bracketed
from lattice_flows.sampling.hmc import erfc_inv
from lattice_flows.sampling.tempering import begun, walked
from lattice_flows.statistics import estimate

LEAST, WANTED = 0.1, 0.3
"""The rate of swaps below which there is advice, and the rate that it aims at."""


def tempering_entries(config: Config, chains: ChainFile) -> dict[str, Any] | None:
    """The entries `tempering` of report.json: couplings, swaps of each pair and round trips; None without them.

    A round trip leads a configuration from the first coupling to the last one and back.
    """
    if config.tempering.betas is None:
        return None
    found = [estimate(rates.T) for rates in np.moveaxis(chains.series("swaps/probability"), 2, 0)]
    return {
        "betas": list(config.tempering.betas),
        "swaps": [{"value": own.value, "error": None if math.isnan(own.error) else own.error} for own in found],
        "round_trips": round_trips(chains.series("swaps/accepted")),
    }


def round_trips(swapped: np.ndarray) -> int:
    """The number of round trips, over all chains, that swaps `(updates, chains, pairs)` make.

    Example:
        >>> round_trips(np.ones((6, 1, 1), bool))  # two walkers, each back after two swaps
        5
    """
    walkers, progress = begun(swapped.shape[1], swapped.shape[2] + 1)
    total = 0
    for row in torch.from_numpy(swapped):
        walkers, progress, trips = walked(walkers, progress, row)
        total += int(trips.sum())
    return total


def tempering_table(report: Mapping[str, Any]) -> str:
    """Write the entries as text.

    Example:
        >>> print(tempering_table({"betas": [1.0, 2.0], "swaps": [{"value": 0.31, "error": 0.02}], "round_trips": 9}))
        replica exchange  swaps
        1 - 2             0.31(2)
        round trips       9
        <BLANKLINE>
    """
    names = [f"{low:g} - {high:g}" for low, high in itertools.pairwise(report["betas"])]
    rates = [bracketed(own["value"], own["error"]) for own in report["swaps"]]
    rows = [("replica exchange", "swaps"), *zip(names, rates, strict=True), ("round trips", str(report["round_trips"]))]
    return columns(rows)


def tempering_warnings(report: Mapping[str, Any] | None) -> list[str]:
    """Name the couplings that hardly swap in a report, and the remedy; see `swap_warnings`."""
    return swap_warnings(report["betas"], [own["value"] for own in report["swaps"]]) if report else []


def swap_warnings(betas: Sequence[float], rates: Iterable[float]) -> list[str]:
    """Name the couplings that hardly swap, and the remedy.

    The rate of swaps is erfc(c (b - a)) for couplings a and b, where actions are normal.

    Source: K. Hukushima, K. Nemoto, cond-mat/9512035.

    Example:
        >>> swap_warnings([1.0, 2.0, 2.5], [0.02, 0.4])
        ['beta = 1 and 2 hardly swap (0.02): put 2 couplings between them in tempering.betas']
    """
    lines = []
    for (low, high), rate in zip(itertools.pairwise(betas), rates, strict=True):
        if rate < LEAST:
            more = math.ceil(erfc_inv(rate) / erfc_inv(WANTED)) - 1
            words = f"{more} coupling{'s' if more > 1 else ''} between them in tempering.betas"
            lines.append(f"beta = {low:g} and {high:g} hardly swap ({rate:.2g}): put {words}")
    return lines
