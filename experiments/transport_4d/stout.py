"""Measures annealing with stout couplings between heat-bath updates, the stochastic flow of 2412.00200.

    python experiments/transport_4d/stout.py [--stages 8 16] [--chains 256] [--draws 8]

SU(3) on 4^4 from beta = 6.0 to 6.1. A stage is a sweep of stout couplings with one rho, then a heat bath and two
over-relaxations. Rho is fitted: it minimises the variance that windows of stages add to log w. Printed for each number
of stages are the variance of log w times that number, and the CPU time of a stage, beside annealing without couplings.
"""

import argparse
import json
import math
import time

import torch

from lattice_flows import SU, GaugeField, flows
from lattice_flows.actions import Action, Wilson
from lattice_flows.sampling import Annealing, Cycle, HeatBath, OverRelaxation, Streams, log_z_ratio, start
from lattice_flows.statistics import ess

SPACE, BETAS, REFLECTIONS = GaugeField(SU(3), (4,) * 4), (6.0, 6.1), 2
THERMALISE, EVERY, WINDOW, STEP = 100, 10, 8, 1e-3


def updates(beta: float, reflections: int = REFLECTIONS) -> Cycle | HeatBath:
    """The updates of a stage."""
    action = Wilson(SPACE, beta)
    return Cycle([HeatBath(action), (OverRelaxation(action), reflections)]) if reflections else HeatBath(action)


def thermalised(beta: float, streams: Streams, draws: int) -> list[torch.Tensor]:
    """Configurations `(chains, *shape)` at several times."""
    sampler = updates(beta)
    state, kept = sampler.init(start(SPACE, streams, dtype=torch.float64)), []
    for update in range(THERMALISE + draws * EVERY):
        state, _ = sampler.step(state, streams)
        if update >= THERMALISE and (update - THERMALISE) % EVERY == 0:
            kept.append(state.x)
    return kept


@torch.no_grad()
def fitted_rho(x: torch.Tensor, streams: Streams, windows: int = 4) -> tuple[float, float]:
    """The rho per unit of beta, and the share of the variance of S that it leaves in one step."""
    sampler, layer = updates(sum(BETAS) / 2), flows.stout(SU(3), SPACE.lattice, sweeps=1, rho=STEP, dtype=torch.float64)
    unit: Action = Wilson(SPACE, 1.0)
    state, found = sampler.init(x), []
    for _ in range(windows * WINDOW):
        y, logdet = layer(state.x)
        found.append(torch.stack((-unit(state.x), (state.action - sampler.action(y) + logdet) / STEP), -1))
        state, _ = sampler.step(state, streams)
    series = torch.stack(found)
    means = series.unflatten(0, (windows, WINDOW)).mean(1).flatten(0, 1)
    rho = -torch.cov(means.mT)[0, 1] / means[:, 1].var()
    rest = series[..., 0] + rho * series[..., 1]
    return rho.item(), (rest.var() / series[..., 0].var()).item()


def annealed(stages: int, rho: float, reflections: int, starts: list[torch.Tensor], streams: Streams) -> dict:
    """The variance of log w, and the CPU time of a stage and configuration."""
    step = (BETAS[1] - BETAS[0]) / stages
    layer = flows.stout(SU(3), SPACE.lattice, sweeps=1, rho=rho * step, dtype=torch.float64) if rho else None
    schedule = [updates(BETAS[0] + step * (stage + 1), reflections) for stage in range(stages)]
    annealing = Annealing(schedule, start=Wilson(SPACE, BETAS[0]), layers=[layer] * stages)
    since = time.process_time()
    log_w = torch.stack([annealing.run(x, streams).log_w for x in starts], 1)  # (chains, draws)
    seconds = (time.process_time() - since) / (log_w.numel() * stages)
    left_out = torch.stack([log_w[torch.arange(len(log_w)) != chain].var() for chain in range(len(log_w))])
    error = (left_out - left_out.mean()).square().sum() * (len(log_w) - 1) / len(log_w)
    log_z = log_z_ratio(log_w.flatten())
    return {
        "stages": stages, "rho": rho * step, "over_relaxations": reflections, "samples": log_w.numel(),
        "variance_times_stages": stages * log_w.var().item(), "error": stages * math.sqrt(error),
        "ess": ess(log_w.flatten()).item(), "log_z_ratio": log_z[0].item(), "log_z_error": log_z[1].item(),
        "milliseconds_a_stage": 1e3 * seconds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, nargs="+", default=[8])
    parser.add_argument("--chains", type=int, default=256)
    parser.add_argument("--draws", type=int, default=8)
    arguments = parser.parse_args()
    streams = Streams(seed=1, chains=arguments.chains)
    starts = thermalised(BETAS[0], streams, arguments.draws)
    rho, left = fitted_rho(starts[-1], streams)
    print(json.dumps({"rho_per_beta": rho, "variance_left": left}), flush=True)
    for stages in arguments.stages:
        for size, reflections in ((0.0, 0), (0.0, REFLECTIONS), (rho, 0), (rho, REFLECTIONS)):
            print(json.dumps(annealed(stages, size, reflections, starts, streams)), flush=True)


if __name__ == "__main__":
    main()
