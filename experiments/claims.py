"""The names in expected.json: NAME of a model, `_seed2` of other seeds, ` at L=32` of a carried flow."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from lattice_flows.groups import from_name
from lattice_flows.planar.characters import characters

PUBLISHED = {
    "SU(2)": {"D. Boyda et al. 2020": {1.8: 0.91, 2.2: 0.80, 2.7: 0.56}},
    "SU(3)": {
        "D. Boyda et al. 2020": {4: 0.88, 5: 0.75, 6: 0.48},
        "S. Bacchio et al. 2022": {4: 0.98, 5: 0.88, 6: 0.70},
    },
}
"""ESS on 16x16: 2008.05456 and, with 420 parameters, 2212.08469."""
NAME = re.compile(r"(?P<group>u1|su\d)_2d_L(?P<L>\d+)_beta(?P<beta>[\d.]+)(_seed(?P<seed>\d))?( at L=(?P<at>\d+))?")


@dataclass(frozen=True)
class Claim:
    """An entry of expected.json: the system that its name says, and what was measured."""

    group: str
    beta: float
    trained_extent: int
    extent: int
    seed: str | None
    measured: dict

    @property
    def system(self) -> str:
        """In words."""
        seed = f", seed {self.seed}" if self.seed else ""
        carried = (
            f", carried from {self.trained_extent}x{self.trained_extent}" if self.extent != self.trained_extent else ""
        )
        return f"{self.group} {self.extent}x{self.extent}, beta = {self.beta:g}{seed}{carried}"


def read(folder: Path) -> list[Claim]:
    """The claims in FOLDER/expected.json."""
    claims = []
    for name, measured in json.loads((folder / "expected.json").read_text(encoding="utf-8")).items():
        match = NAME.fullmatch(name)
        assert match, name
        group = "U(1)" if match["group"] == "u1" else f"SU({match['group'][2:]})"
        trained = int(match["L"])
        extent = int(match["at"]) if match["at"] else trained
        claims.append(Claim(group, float(match["beta"]), trained, extent, match["seed"], measured))
    return claims


def without_learning(group: str, beta: float) -> float:
    """The ESS, in large volumes, of plaquettes drawn independently, reweighted by the one that closes the torus."""
    once, twice = (characters(from_name(group), b).log_trivial for b in (beta, 2 * beta))
    return math.exp(2 * once - twice)
