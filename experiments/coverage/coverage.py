"""How often quoted errors cover the truth: means, tau_int, ESS and log Z of synthetic data with known answers.

    OMP_NUM_THREADS=1 python experiments/coverage/coverage.py chains weights
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
from lattice_flows.statistics import estimate, estimate_ess

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
    return "\n".join(map(markdown, (seen, true, tails)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=["chains", "weights"])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    path = HERE / "expected.json"
    for kind in options.kinds:
        names, study = (CHAINS, chains) if kind == "chains" else (WEIGHTS, weights)
        for name in names:
            record(path, name, study(name))
    if options.table:
        write_table(HERE, table(json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
