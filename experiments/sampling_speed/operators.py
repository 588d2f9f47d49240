"""Cost of force and Laplacian of loop operators in heat-bath sweeps, SU(3) in four dimensions: one thread.

    OMP_NUM_THREADS=1 python experiments/sampling_speed/operators.py

A call of `vector_field` against a call of one sweep, both of several chains: each reads links and writes a field of
their size. They take turns in one process; process time, the least of several rounds. `in a long call` is the cost of
a further sweep of a call.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

from lattice_flows import SU, GaugeField
from lattice_flows.kernels import link_sweeps
from lattice_flows.kernels.link_sweeps import HEAT_BATH
from lattice_flows.operators import merged, next_to_leading, production, vector_field

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))

from bench import machine

GROUP, BETA, SWEEPS, CHAINS = SU(3), 6.0, 5, 8


def thermalised(space: GaugeField, dtype: torch.dtype, sweeps: int = 30) -> torch.Tensor:
    """Links after some sweeps."""
    return sweep(space.prior(CHAINS, torch.Generator().manual_seed(1), dtype=dtype), space, sweeps)


def sweep(links: torch.Tensor, space: GaugeField, sweeps: int) -> torch.Tensor:
    weights = torch.full((space.dim, space.dim), BETA / GROUP.n, dtype=torch.float64)
    keys, calls = torch.arange(2 * CHAINS).reshape(CHAINS, 2), torch.zeros(CHAINS, dtype=torch.int64)
    return link_sweeps(links, space.lattice.extents, weights, [HEAT_BATH] * sweeps, keys, calls).links


def check(space: GaugeField, links: torch.Tensor) -> None:
    """Stops unless force and Laplacian of Q' are those of the algebra of loops."""
    exact = {operator.name: operator for operator in next_to_leading(GROUP, space.dim)}
    parts = [(1, "rectangle"), (1, "chair"), (-1, "tr PP planar"), (-1, "tr PP bent")]
    laplacian = sum(sign * exact[name].laplacian(links) for sign, name in parts)
    force = sum(sign * exact[name].force(links) for sign, name in parts)
    found = vector_field(production(GROUP, space.dim)[1:], (1.0,), links)
    allowed = 1e3 * torch.finfo(links.dtype).eps
    errors = (found.force - force).abs().max(), (found.divergence - laplacian).abs().max() / links.numel()
    if not max(errors) < allowed:
        sys.exit(f"force or Laplacian of Q' is wrong on {space.lattice}")


def ratios(extent: int, dtype: torch.dtype, rounds: int) -> str:
    space = GaugeField(GROUP, (extent,) * 4)
    links, operators = thermalised(space, dtype), production(GROUP, 4)
    check(space, links[:1])
    every = merged(GROUP, 4)
    timed = {
        "sweep": lambda: sweep(links, space, 1),
        "sweeps": lambda: sweep(links, space, SWEEPS),
        "plaquette": lambda: vector_field(operators[:1], (0.05,), links),
        "both": lambda: vector_field(operators, (0.05, 0.003), links),
        "all": lambda: vector_field(every, [0.01] * len(every), links),
    }
    best = dict.fromkeys(timed, float("inf"))
    for _ in range(rounds):
        for name, call in timed.items():
            begin = time.process_time_ns()
            call()
            best[name] = min(best[name], (time.process_time_ns() - begin) / links[..., 0, 0].numel())
    further = (best["sweeps"] - best["sweep"]) / (SWEEPS - 1)
    cells = [f"{best[name]:.3g} | {best[name] / best['sweep']:.2f}" for name in ("plaquette", "both", "all")]
    case = f"{extent}^4 {str(dtype.to_real()).removeprefix('torch.')}"
    return " | ".join([f"| {case}", f"{best['sweep']:.3g}", f"{further:.3g}", *cells]) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(machine(), "\n")
    columns = ["ns a link", "sweep", "in a long call"]
    for name in ("plaquette", "plaquette and Q'", "all eight sums"):
        columns += [name, "sweeps"]
    print(f"| {' | '.join(columns)} |\n|---{'|--:' * (len(columns) - 1)}|")
    for extent in (6, 8):
        for dtype in (torch.complex64, torch.complex128):
            print(ratios(extent, dtype, rounds), flush=True)
