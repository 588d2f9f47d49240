"""Transport between couplings of SU(3) in four dimensions: the variance of log w and the time of a stage.

    python experiments/transport_4d/transport.py ROW ... --out experiments/transport_4d/expected.json

It fits, anneals, times, and writes what it finds. A protocol is what a stage does: the operators of its step, and its
sweeps of heat bath and of over-relaxation. `many_paths.py` goes on with the coefficients.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lattice_flows import SU, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.layers import MidpointStep
from lattice_flows.operators import production
from lattice_flows.reports.words import bracketed
from lattice_flows.sampling import Annealing, Cycle, HeatBath, OverRelaxation, Streams, start
from lattice_flows.training.transport import transport_fit

sys.path.insert(0, str(Path(__file__).parents[1]))

from tables import record

THERMAL, APART, ROUNDS = 200, 20, 4
FIT_STAGES, SHORT, LONG = 64, 4, 28


class Protocol(NamedTuple):
    """The operators of a stage, and its sweeps of over-relaxation behind one of heat bath."""

    operators: int
    over_relaxations: int
    stages: tuple[int, ...] = (8, 16, 32)

    def sampler(self, action):
        """The updates of a stage."""
        heat_bath, over_relaxation = HeatBath(action), OverRelaxation(action)
        return Cycle([heat_bath, (over_relaxation, self.over_relaxations)]) if self.over_relaxations else heat_bath


PLAIN = (8, 16, 32, 64)
PROTOCOLS = {
    "heat bath": Protocol(0, 0, PLAIN),
    "heat bath, 2 OR": Protocol(0, 2),
    "plaquette, 2 OR": Protocol(1, 2),
    "plaquette + Q', 2 OR": Protocol(2, 2),
    "plaquette + Q', 4 OR": Protocol(2, 4),
    "plaquette + Q', 8 OR": Protocol(2, 8),
}


class Row(NamedTuple):
    """A lattice, two couplings, the number of paths for each variance, and that of chains that are run together."""

    extent: int
    begin: float
    end: float
    paths: int
    chains: int = 32
    protocols: tuple[str, ...] = ("heat bath", "plaquette, 2 OR", "plaquette + Q', 2 OR", "plaquette + Q', 4 OR")

    @property
    def name(self):
        return f"{self.extent}^4, {self.begin} -> {self.end}"


ROWS = {
    "6": Row(6, 6.02, 6.178, 768, 64, tuple(PROTOCOLS)),
    "8": Row(8, 6.02, 6.178, 256),
    "6.5": Row(6, 6.0, 6.5, 1536, 64),
    "4": Row(4, 6.02, 6.178, 512),
}


def thermalised(action, streams):
    """Chains that forgot their beginning."""
    cycle = Protocol(0, 2).sampler(action)
    state = cycle.init(start(action.space, streams, dtype=torch.float32))
    for _ in range(THERMAL):
        state, _ = cycle.step(state, streams)
    return state.x


def fits(protocol, action, betas, chains):
    """Fits at the ends of a path, for one unit of beta."""
    operators, found = production(SU(3), 4)[: protocol.operators], []
    unit = (betas[1] - betas[0]) / 16
    for beta, x in zip(betas, chains, strict=True):
        there = action.at(beta)
        streams = Streams(3, len(x)).branch("fit", protocol.operators, protocol.over_relaxations)
        fit = transport_fit(operators, protocol.sampler(there), there.at(beta + unit), x, streams, stages=FIT_STAGES)
        found.append(fit._replace(coefficients=fit.coefficients / unit, variance=fit.variance / unit**2))
    return found


def annealing(protocol, action, betas, found, n):
    """That of n stages, with coefficients between those of the ends."""
    steps, layers = np.linspace(*betas, n + 1), []
    for k in range(n):
        share, size = (k + 0.5) / n, steps[1] - steps[0]
        rate = (1 - share) * found[0].coefficients + share * found[1].coefficients
        layers.append(MidpointStep(action.space, production(SU(3), 4)[: len(rate)], size * rate) if len(rate) else None)
    schedule = [protocol.sampler(action.at(float(beta))) for beta in steps[1:]]
    return Annealing(schedule, start=action.at(betas[0]), layers=layers)


def starts(action, x, paths):
    """Batches of chains, far apart along each chain."""
    streams, cycle = Streams(4, len(x)), Protocol(0, 1).sampler(action)
    state = cycle.init(x)
    for _ in range(paths // len(x)):
        for _ in range(APART):
            state, _ = cycle.step(state, streams)
        yield state.x


def variance(log_w):
    """The variance with its error."""
    d = log_w - log_w.mean()
    return [float(d.var()), float((((d**4).mean() - (d**2).mean() ** 2) / len(d)).sqrt())]


def nanoseconds(annealings, x):
    """The process time of a link and stage of each protocol: of long paths less short ones, the least, all in turn."""
    least = {name: [np.inf, np.inf] for name in annealings}
    for k in range(ROUNDS):
        for name, pair in annealings.items():
            for which, own in enumerate(pair):
                began = time.process_time()
                own.run(x, Streams(5 + k, len(x)))
                least[name][which] = min(least[name][which], time.process_time() - began)
    return {
        name: 1e9 * (long - short) / (x.shape[:6].numel() * (LONG - SHORT)) for name, (short, long) in least.items()
    }


def write(out, row, claim):
    """Add the claim of a row to a JSON file."""
    if out is not None:
        record(out, row.name, claim)


def run(row, keep):
    """All protocols of a row; what is found is kept after every batch of paths."""
    began, betas = time.process_time(), (row.begin, row.end)
    action = Wilson(GaugeField(SU(3), (row.extent,) * 4), row.begin)
    chains = [thermalised(action.at(beta), Streams(2, row.chains).branch("at", k)) for k, beta in enumerate(betas)]
    claim, maps, timed = {"paths": row.paths, "protocols": {}}, {}, {}
    for name in row.protocols:
        protocol = PROTOCOLS[name]
        found = fits(protocol, action, betas, chains)
        maps[name] = {n: annealing(protocol, action, betas, found, n) for n in protocol.stages}
        timed[name] = [annealing(protocol, action, betas, found, n) for n in (SHORT, LONG)]
        distance = (row.end - row.begin) ** 2
        claim["protocols"][name] = {
            "coefficients": [fit.coefficients.tolist() for fit in found],
            "left": [fit.left for fit in found],
            "tau_int": [fit.tau_int for fit in found],
            "predicted": distance * sum(2 * fit.work for fit in found) / 2,  # var(log w) x n
        }
        print(name, claim["protocols"][name], flush=True)
    claim["nanoseconds"] = nanoseconds(timed, chains[0][:16])
    print(claim["nanoseconds"], flush=True)
    log_w = {name: {n: [] for n in own} for name, own in maps.items()}
    for k, x in enumerate(starts(action, chains[0], row.paths)):
        for p, (name, own) in enumerate(maps.items()):
            for n, one in own.items():
                log_w[name][n].append(one.run(x, Streams(6, len(x)).branch(k, p, n)).log_w)
                variances = {str(m): variance(torch.cat(found)) for m, found in log_w[name].items() if found}
                claim["protocols"][name]["variances"] = variances
        claim["paths"], claim["cpu_minutes"] = len(x) * (k + 1), round((time.process_time() - began) / 60, 1)
        keep(claim)


def at_equal_variance(own, other, n=16):
    """How many times as many stages `other` needs for the variance of n stages of `own`, with its error.

    That of `own` is its mean var x n over n, and the variance of `other` a power of its number of stages.
    """
    value, error = products(own)
    stages = np.array([int(m) for m in other["variances"]])
    var, errors = np.array(list(other["variances"].values())).T
    (power, offset), covariance = np.polyfit(np.log(stages), np.log(var), 1, w=var / errors, cov="unscaled")
    wanted = (np.log(value / n) - offset) / power
    slope = np.array([wanted, 1])
    ratio = float(np.exp(wanted) / n)
    return ratio, ratio * float(np.hypot(error / value, (slope @ covariance @ slope) ** 0.5) / abs(power))


def gains(claim):
    """For each protocol but that: gain in stages and in time over heat bath alone, with errors."""
    plain, ns = claim["protocols"]["heat bath"], claim["nanoseconds"]
    found = {}
    for name in [name for name in claim["protocols"] if name != "heat bath"]:
        ratio, error = at_equal_variance(claim["protocols"][name], plain)
        cost = ns[name] / ns["heat bath"]
        found[name] = {"stages": [ratio, error], "time": [ratio / cost, error / cost]}
    return found


def products(own):
    """var(log w) x n of a protocol, its mean over n >= 16, with its error."""
    kept = [(int(n) * value, int(n) * error) for n, (value, error) in own["variances"].items() if int(n) >= 16]
    values, errors = np.array(kept).T
    weights = (values / errors) ** 2
    return float((weights @ values) / weights.sum()), float((values**2 * weights).sum() ** 0.5 / weights.sum())


def table(claims):
    """The rows of the README."""
    head = ["", "var(log w) x n", "predicted", "ns a link and stage", "in stages", "in time", "CPU min"]
    lines = [head, ["---"] * len(head)]
    for row, claim in claims.items():
        lines.append([f"**{row}**", *[""] * 5, f"{claim['cpu_minutes']:.0f}"])
        found = gains(claim)
        for name, own in claim["protocols"].items():
            ns = f"{claim['nanoseconds'][name]:.0f}"
            ratios = [bracketed(*found[name][kind]) if name in found else "1" for kind in ("stages", "time")]
            lines.append([name, bracketed(*products(own)), f"{own['predicted']:.3g}", ns, *ratios, ""])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for row in (ROWS[name] for name in arguments.rows):
        run(row, partial(write, arguments.out, row))


if __name__ == "__main__":
    main()
