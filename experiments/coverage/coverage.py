"""How often quoted errors cover the truth: means, tau_int, ESS and log Z of synthetic data with known answers.

OMP_NUM_THREADS=1 python experiments/coverage/coverage.py --studies chains weights narrow
python experiments/coverage/coverage.py --table
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.signal import lfilter

from lattice_flows.sampling import log_z_ratio
from lattice_flows.statistics import Moves, estimate, estimate_ess
from lattice_flows.statistics.pulls import pulls_of

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tables import markdown, record, write_table  # noqa: E402

CHAINS = {f"tau {tau}": [(tau, 1.0)] for tau in (1, 3, 10, 50)} | {
    f"{100 - share} % of tau {fast}, {share} % of tau {slow}": [(fast, 1 - share / 100), (slow, share / 100)]
    for fast, slow, share in ((1, 10, 50), (1, 10, 10), (1, 50, 2))
}
"""The autoregressive parts of a series: tau_int, and the share of the variance."""
LENGTHS = np.geomspace(100, 1000, 20)
"""Of chains, in units of tau_int: that of a chain is unknown, and as likely as another on a logarithmic scale."""
REPETITIONS = 600
SEEN = [(200, 300), (300, 450), (450, 700)]
TRUE = [(130, 200), *SEEN]
WEIGHTS = {f"sigma {sigma}": sigma for sigma in (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)} | {
    f"k {k}": k for k in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
}
"""Log-normal weights exp(sigma z), and those of a Pareto tail, P(w > t) = t^(-1 / k)."""
NARROW = {"1 dimension": (1, 0.3, 0.9), "4 dimensions": (4, 0.4, 0.9), "16 dimensions": (16, 0.72, 0.92)}
"""Dimension, and standard deviations of normal models of a target of standard deviation 1."""
SAMPLES = (200, 500, 2000, 10_000)


def series(parts: list[tuple[float, float]], n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Chains `(count, n)` in equilibrium: sums of x_t = a x_(t-1) + noise, of mean 0 and variance 1."""
    total = np.zeros((count, n))
    for tau, share in parts:
        a = (2 * tau - 1) / (2 * tau + 1)
        noise = math.sqrt(1 - a**2) * rng.standard_normal((count, n))
        total += math.sqrt(share) * lfilter([1], [1, -a], noise, zi=a * rng.standard_normal((count, 1)))[0]
    return total


def pulls_of_chains(name: str, lengths: np.ndarray = LENGTHS, count: int = REPETITIONS) -> np.ndarray:
    """Rows of: true length, seen length in units of tau_int, whether reliable, pulls of value, tau_int, log tau_int."""
    parts, rng, rows = CHAINS[name], np.random.default_rng(len(name)), []
    tau = sum(share * own for own, share in parts)
    for length in lengths:
        n = round(length * tau)
        for own in map(estimate, series(parts, n, count, rng)):
            relative = own.tau_int_error / own.tau_int
            ratio = own.tau_int / tau
            pulls = own.value / own.error, (1 - 1 / ratio) / relative, math.log(ratio) / relative
            rows.append((length, n / own.tau_int, own.reliable, *pulls))
    return np.array(rows)


def within(pulls: np.ndarray) -> list[float]:
    """The shares within one error, and within two."""
    return [round(float((abs(pulls) < errors).mean()), 4) for errors in (1, 2)]


def chains(name: str) -> dict:
    """Coverage by the length that a reader sees, and by the true one, where errors are called reliable."""
    rows, found = pulls_of_chains(name), {"seen": {}, "true": {}}
    reliable = rows[:, 2] > 0
    for column, kind, bands in ((1, "seen", SEEN), (0, "true", TRUE)):
        for low, high in bands:
            there = (low <= rows[:, column]) & (rows[:, column] < high)
            value, tau, log_tau = rows[there & reliable, 3:].T
            found[kind][f"{low}-{high}"] = {
                "n": len(value),
                "reliable": round(float(reliable[there].mean()), 4),
                "value": within(value),
                "tau_int": within(tau),
                "log tau_int": within(log_tau),
            }
    return found


def log_weights(name: str, shape: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """Log-weights, their exact ESS, and log Z."""
    x = WEIGHTS[name]
    if name.startswith("sigma"):
        return x * rng.standard_normal(shape), math.exp(-(x**2)), x**2 / 2
    return x * rng.standard_exponential(shape), max(0.0, (1 - 2 * x) / (1 - x) ** 2), -math.log(1 - x)


def weights(name: str, samples: tuple[int, ...] = SAMPLES, count: int = 2000) -> dict:
    """Coverage of the ESS where it has an error, of its bound elsewhere, and of log Z everywhere."""
    rng, found = np.random.default_rng(len(name)), {}
    for n in samples:
        logs, exact, log_z = log_weights(name, (count, n), rng)
        results = [estimate_ess(own) for own in logs]
        pulls = np.array([(own.value - exact) / own.error for own in results if own.reliable])
        value, error = (own.numpy() for own in log_z_ratio(torch.from_numpy(logs)))
        found[str(n)] = {
            "n": count,
            "reliable": round(len(pulls) / count, 4),
            "ESS": within(pulls) if len(pulls) else None,
            "log Z": within((value - log_z) / error),
        }
    return found


def independence(log_w: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The proposals that a chain of independence Metropolis stands at."""
    kept, uniform = np.zeros(len(log_w), np.int64), np.log(rng.random(len(log_w)))
    for t in range(1, len(log_w)):
        kept[t] = t if uniform[t] < log_w[t] - log_w[kept[t - 1]] else kept[t - 1]
    return kept


def swept(x: np.ndarray, rng: np.random.Generator, sweeps: int = 4) -> np.ndarray:
    """Standard normal numbers `(n, dim)` after sweeps of Metropolis, one component after the other."""
    x = x.copy()
    for _ in range(sweeps):
        for own in x.T:
            new = own + 1.6 * rng.standard_normal(len(own))
            accepted = np.log(rng.random(len(own))) < (own**2 - new**2) / 2
            own[accepted] = new[accepted]
    return x


def narrow(name: str, models: int = 200, updates: int = 4000) -> dict:
    """Means of x^2 by models narrower than the target: the share within three errors, without and with `drift`.

    The states of a chain are moved alike for all measurements of a stay, or up to 16 copies of a state in turn.
    """
    dim, low, high = NARROW[name]
    rng = np.random.default_rng(dim)
    right: dict[str, list[bool]] = {"all": [], "moved alike": [], "moved in copies": []}
    for scale in np.linspace(low, high, models):
        proposals = scale * rng.standard_normal((updates, dim))
        kept = independence((scale**-2 - 1) / 2 * (proposals**2).sum(-1), rng)
        x, moves = proposals[kept], Moves.of(np.diff(kept, prepend=-1) > 0)
        own = estimate((x**2).mean(-1), moves)
        if not own.reliable:
            continue
        right["all"].append(bool(abs(own.value - 1) < 3 * own.error))
        visits = np.concatenate([np.arange(stay) for stay in moves.stays[0]])
        for kind, state in (("moved alike", kept), ("moved in copies", 16 * kept + visits % 16)):
            _, first, inverse = np.unique(state, return_index=True, return_inverse=True)
            y = swept(x[first], rng)[inverse]
            zeros = {"x": y[:, 0] - x[:, 0]} | {f"x^{k}": (y**k - x**k).mean(-1) for k in (2, 4)}
            if not pulls_of({key: estimate(series) for key, series in zeros.items()}).wrong:
                right[kind].append(right["all"][-1])
    return {kind: {"reliable": len(own), "within 3": round(float(np.mean(own)), 4)} for kind, own in right.items()}


def shares(found: list[float] | None) -> str:
    """Coverage of one error, and of two, in percent."""
    return "-" if found is None else " / ".join(f"{100 * share:.1f}" for share in found)


def table(found: dict) -> str:
    """The tables of the README."""
    seen = [
        {"chains": name, "n / tau_int": band, **{key: shares(own[key]) for key in ("value", "tau_int", "log tau_int")}}
        for name in CHAINS
        for band, own in found[name]["seen"].items()
    ]
    true = [
        {"chains": name, "true n / tau_int": band, "reliable": f"{100 * own['reliable']:.0f} %"}
        | {key: shares(own[key]) for key in ("value", "log tau_int")}
        for name in CHAINS
        for band, own in found[name]["true"].items()
    ]
    tails = [
        {"weights": name, "n": n, "with an error": f"{100 * own['reliable']:.0f} %"}
        | {key: shares(own[key]) for key in ("ESS", "log Z")}
        for name in WEIGHTS
        for n, own in found[name].items()
    ]
    models = [
        {"narrow models": name}
        | {
            f"{key}: reliable, within 3": f"{own['reliable']}, {100 * own['within 3']:.1f}"
            for key, own in found[name].items()
        }
        for name in NARROW
    ]
    return "\n".join(map(markdown, (seen, true, tails, models)))


STUDIES = {"chains": (CHAINS, chains), "weights": (WEIGHTS, weights), "narrow": (NARROW, narrow)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", nargs="*", choices=[*STUDIES], default=[])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    path = HERE / "expected.json"
    for kind in options.studies:
        names, study = STUDIES[kind]
        for name in names:
            record(path, name, study(name))
    if options.table:
        write_table(HERE, table(json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
