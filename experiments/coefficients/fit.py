"""The gradient flow that trivialises the Wilson action: coefficients by a fit and by the algebra of loops.

    python experiments/coefficients/fit.py --out experiments/coefficients/expected.json
    python experiments/coefficients/fit.py --table

With S = beta s the flow is Phi = sum_k beta^(k+1) t^k Phi_k, where Lap Phi_0 = s and Lap Phi_k = ds.dPhi_(k-1), each
but for a constant (M. Luscher, 0907.5491, section 3). The algebra of loops solves these equations. The fit is that of
the training, to configurations of heat bath at two small couplings, and is extrapolated to beta = 0.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from lattice_flows import SU, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.operators import LoopAlgebra, merged, next_to_leading
from lattice_flows.operators.algebra import ONE, path_of
from lattice_flows.reports.words import bracketed
from lattice_flows.sampling import Streams
from lattice_flows.training.fits import regression, zeros_along_path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tables import write_table  # noqa: E402

EXTENTS = {3: (4, 4, 4), 4: (4, 4, 4, 4)}
COUPLINGS, CHAINS, SWEEPS, SEEDS = (0.05, 0.1), 128, 6, 4
PUBLISHED = {
    3: (1 / 792, -1 / 952, 5 / 11424, -1 / 3168, 1 / 480, -1 / 320, -1 / 1728),
    4: (1 / 2745, -1 / 3465, 1 / 11088, -1 / 14640, 1 / 2880, -1 / 1440, -1 / 7680),
    5: (1 / 6984, -1 / 9000, 1 / 36000, -1 / 46560, 1 / 10080, -1 / 4032, -1 / 24000),
}
"""Luscher's coefficients of Phi_1, of `merged` but the plaquette; N = 4, 5 by his equations."""


def solved(algebra: LoopAlgebra, right: dict) -> tuple[dict, float]:
    """The sum X with Lap X = right + a constant, by classes of loops, and the largest error of the equations.

    Of three loops of SU(3) a sum, 6 det P, is a constant, although the algebra does not know: its Laplacian is 0.
    """
    classes = algebra.closed(right)
    index = {monomial: i for i, monomial in enumerate(classes)}
    matrix, wanted = np.zeros((len(classes), len(classes))), np.zeros(len(classes))
    for monomial in classes:
        for other, coefficient in algebra.laplacian({monomial: 1}).items():
            if other != ONE:
                matrix[index[other], index[monomial]] = float(coefficient)
    for monomial, coefficient in right.items():
        if monomial != ONE:
            wanted[index[monomial]] = float(coefficient)
    _, sizes, rows = np.linalg.svd(matrix)
    constants = rows[sizes < 1e-10 * sizes[0]].T
    both = np.concatenate((matrix, constants), 1)
    found = np.linalg.lstsq(both, wanted, rcond=1e-12)[0]
    return dict(zip(classes, found, strict=False)), float(abs(both @ found - wanted).max())


def orders(n: int, dim: int) -> tuple[dict, dict, float]:
    """Phi_1 and Phi_2 of SU(n) by classes of loops, and the largest error of their equations."""
    algebra = LoopAlgebra(SU(n), dim)
    plaquette, leading = {algebra.plaquette: 1}, 1 / (2 * (n * n - 1))
    phi, worst, found = {algebra.plaquette: leading}, 0.0, []
    for _ in range(2):
        slope = algebra.product(plaquette, phi)
        phi, error = solved(algebra, {monomial: -float(c) / n for monomial, c in slope.items()})
        worst = max(worst, error)
        found.append(phi)
    return found[0], found[1], worst


def fitted(n: int, dim: int, seed: int) -> torch.Tensor:
    """The coefficients of Phi_1 of the operators of `merged` but the plaquette, extrapolated to beta = 0."""
    operators, found = merged(SU(n), dim), []
    action = Wilson(GaugeField(SU(n), EXTENTS[dim]), beta=1.0)
    for t in COUPLINGS:
        streams = Streams(seed, CHAINS).branch("fit", dim, n)
        fit = regression(*zeros_along_path(operators, action.at, t, streams, SWEEPS))
        found.append(separate(fit.coefficients[1:] / t, n))
    return 2 * found[0] - found[1]


def separate(c: torch.Tensor, n: int) -> torch.Tensor:
    """Coefficients that a fit can tell apart: for SU(3) tr P^2 = (tr P)^2 - 2 (tr P)*."""
    return torch.cat((c[:4], c[4:6].sum(0, keepdim=True), c[6:])) if n == 3 else c


def names(n: int, dim: int) -> list[str]:
    """Those of the coefficients that are told apart."""
    own = [operator.name for operator in merged(SU(n), dim)[1:]]
    return [*own[:4], f"{own[4]} and {own[5]}", *own[6:]] if n == 3 else own


def measure(n: int, dim: int) -> dict:
    """The fit beside the exact coefficients, and the next order."""
    since = time.process_time()
    first, second, error = orders(n, dim)
    known = {own.monomial: own.name for own in next_to_leading(SU(n), dim)}
    by_name = {known[monomial]: c for monomial, c in first.items()}
    exact = [by_name[own.name.split(" + ")[0]] for own in merged(SU(n), dim)[1:]]
    fits = torch.stack([fitted(n, dim, seed) for seed in range(1, SEEDS + 1)])
    ratios = fits / separate(torch.tensor(exact, dtype=torch.float64), n)
    largest = sorted(second.items(), key=lambda own: -abs(own[1]))
    return {
        "exact": exact,
        "published": list(PUBLISHED[n]),
        "ratios": {
            name: [float(own.mean()), float(own.std() / SEEDS**0.5)]
            for name, own in zip(names(n, dim), ratios.T, strict=True)
        },
        "error_of_equations": error,
        "next_order": [
            {"loops": [in_words(loop) for loop in monomial], "coefficient": c}
            for monomial, c in largest
            if abs(c) > 1e-15
        ],
        "cpu_seconds": round(time.process_time() - since, 1),
    }


def in_words(loop: tuple) -> str:
    """The site where a loop begins, and its steps: 1 along the first direction, -2 against the second one."""
    site, steps = path_of(loop)
    return f"{' '.join(map(str, site))}: {' '.join(str(sign * (mu + 1)) for mu, sign in steps)}"


def table(found: dict) -> str:
    """The rows of the README."""
    rows = [["theory", "operators", "fit / exact: nearest", "farthest", "next order: operators", "largest", "CPU s"]]
    rows.append(["---", *["--:"] * (len(rows[0]) - 1)])
    for name, own in found.items():
        ratios = sorted(own["ratios"].values(), key=lambda ratio: abs(ratio[0] - 1))
        size = abs(own["next_order"][0]["coefficient"])
        rows.append([
            name, str(len(own["ratios"])), bracketed(*ratios[0]), bracketed(*ratios[-1]), str(len(own["next_order"])),
            f"{size:.3g}", f"{own['cpu_seconds']:g}",
        ])  # fmt: skip
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--groups", type=int, nargs="+", default=[3, 4, 5], metavar="N")
    parser.add_argument("--table", action="store_true", help="write what expected.json holds to README.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table:
        write_table(HERE, table(json.loads((HERE / "expected.json").read_text(encoding="utf-8"))))
        return
    found = {}
    for n in arguments.groups:
        for dim in EXTENTS:
            found[f"SU({n}), {dim} dimensions"] = own = measure(n, dim)
            print(n, dim, own["ratios"], own["error_of_equations"], own["cpu_seconds"], flush=True)
            if arguments.out is not None:
                arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
