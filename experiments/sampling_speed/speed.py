"""Speed of heat bath with over-relaxation, and of HMC, against the same algorithms as plain torch: one thread, SU(3).

    python experiments/sampling_speed/speed.py

Both sides take turns in one run, each with a chain of its own, and have to find the same plaquette.
"""

import argparse
import itertools
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from lattice_flows import SU
from lattice_flows.actions import Wilson
from lattice_flows.actions.local import link_cells
from lattice_flows.lattice import GaugeField, Lattice
from lattice_flows.sampling import HMC, Cycle, HeatBath, OverRelaxation, Streams, start

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))

from bench import machine

GROUP, BETA, LAMBDA = SU(3), 6.0, 0.1931833275037836
PAIRS = list(itertools.combinations(range(3), 2))


def ahead(field: Tensor, mu: int, steps: int = 1) -> Tensor:
    """The field `(*sites, 3, 3)` at x + steps mu."""
    return field.roll(-steps, mu)


def staples(links: Tensor, mu: int, here: Tensor | slice = slice(None)) -> Tensor:
    """The sum of staples that close U_mu(x), of some sites or of all."""

    def at(field: Tensor) -> Tensor:
        return field.flatten(0, -3)[here]

    total = torch.zeros(())
    for nu in set(range(len(links))) - {mu}:
        u, v, v_ahead = links[mu], links[nu], ahead(links[nu], mu)
        total = total + at(v_ahead) @ at(ahead(u, nu)).mH @ at(v).mH
        total = total + at(ahead(v_ahead, nu, -1)).mH @ at(ahead(u, nu, -1)).mH @ at(ahead(v, nu, -1))
    return total


def quaternion(product: Tensor, p: int, q: int) -> tuple[Tensor, Tensor]:
    """Length and direction of what rows and columns p, q have of SU(2)."""
    pp, pq, qp, qq = product[:, p, p], product[:, p, q], product[:, q, p], product[:, q, q]
    v = torch.stack((pp.real + qq.real, pq.imag + qp.imag, pq.real - qp.real, pp.imag - qq.imag), -1) / 2
    length = v.square().sum(-1, keepdim=True).sqrt()
    return length[:, 0], v / length


def over(a: Tensor, b: Tensor) -> Tensor:
    """a b^dagger of quaternions."""
    vector = a[:, 1:] * b[:, :1] - a[:, :1] * b[:, 1:] + torch.linalg.cross(a[:, 1:], b[:, 1:])
    return torch.cat(((a * b).sum(-1, keepdim=True), vector), -1)


def turn(links: Tensor, p: int, q: int, a: Tensor) -> Tensor:
    """Rows p and q times elements of SU(2)."""
    first, second = torch.complex(a[:, 0], a[:, 3])[:, None], torch.complex(a[:, 2], a[:, 1])[:, None]
    new = links.clone()
    new[:, p] = first * links[:, p] + second * links[:, q]
    new[:, q] = first.conj() * links[:, q] - second.conj() * links[:, p]
    return new


def kennedy_pendleton(k: Tensor, direction: Tensor, uniforms: Tensor) -> Tensor:
    """b with density exp(k b_0), from several attempts."""
    b, waiting = direction, torch.ones_like(k, dtype=torch.bool)
    for r in uniforms.unbind(1):
        across = -(-r[:, 0]).log1p() / (2 * k)
        along = (2 * math.pi * r[:, 1]).cos() * (-(-r[:, 2]).log1p() / (2 * k)).sqrt()
        rest = 1 - across - along.square()
        accepted = (r[:, 3].square() < rest) & waiting
        root = rest.clamp_min(1e-30).sqrt()
        angle, radius = 2 * math.pi * r[:, 3] / root, 2 * root * across.sqrt()
        new = torch.stack((2 * rest - 1, radius * angle.cos(), radius * angle.sin(), 2 * root * along), -1)
        b, waiting = torch.where(accepted[:, None], new, b), waiting & ~accepted
    return b


def plain_sweep(links: Tensor, uniforms: Tensor | None) -> Tensor:
    """A heat-bath sweep of links `(4, *sites, 3, 3)`, or without random numbers one of over-relaxation."""
    links, done = links.clone(), 0
    lattice = Lattice(tuple(links.shape[1:-2]))
    for cell in link_cells(lattice, links.device):
        mu, here = int(cell.active[0]) // lattice.volume, cell.active % lattice.volume
        field = links[mu].view(-1, 3, 3)
        old, sums = field[here], staples(links, mu, here)
        for pair, (p, q) in enumerate(PAIRS):
            length, direction = quaternion(old @ sums, p, q)
            if uniforms is None:
                identity = torch.zeros_like(direction)
                identity[:, 0] = 1
                a = over(over(identity, direction), direction)
            else:
                b = kennedy_pendleton(2 * BETA / 3 * length, direction, uniforms[done : done + len(here), pair])
                a = over(b, direction)
            old = turn(old, p, q, a)
        field[here] = old
        done += len(here)
    return links


def plain_force(links: Tensor) -> Tensor:
    """The force of the Wilson action."""
    parts = []
    for mu in range(4):
        loops = links[mu] @ staples(links, mu).view(links[mu].shape)
        parts.append(GROUP.project_algebra(loops))
    return BETA / 6 * torch.stack(parts)


def plain_trajectory(links: Tensor, action: Wilson, space: GaugeField, steps: int) -> Tensor:
    """Molecular dynamics by Omelyan's scheme with an accept step; the next links."""
    momenta = space.momenta()
    before = space.inner(momenta, momenta) / 2 + action(links).double()
    step, end = 1 / steps, links
    for kick in [LAMBDA, *([1 - 2 * LAMBDA, 2 * LAMBDA] * steps)[:-1]]:
        momenta = momenta - step * kick * plain_force(end)
        end = torch.linalg.matrix_exp(step / 2 * momenta) @ end
    momenta = momenta - step * LAMBDA * plain_force(end)
    delta = space.inner(momenta, momenta) / 2 + action(end).double() - before
    return end if torch.rand((), dtype=torch.float64).log() < -delta else links


def best_of(rounds: int, *calls) -> list[float]:
    """Seconds of process time, the least of several rounds, in which the calls take turns."""
    took = [math.inf] * len(calls)
    for _ in range(rounds):
        for k, call in enumerate(calls):
            begin = time.process_time()
            call()
            took[k] = min(took[k], time.process_time() - begin)
    return took


def main():
    """Prints a row for heat bath with over-relaxation, and one for HMC."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extent", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="of a trajectory")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    space, streams = GaugeField(GROUP, (options.extent,) * 4), Streams(seed=1, chains=1)
    action = Wilson(space, BETA)
    heat, over_relaxed, hmc = HeatBath(action), OverRelaxation(action), HMC(action, steps=options.steps)
    state = heat.init(start(space, streams, "cold"))
    for _ in range(20):
        state, _ = heat.step(state, streams)
    n, cycle = 4 * space.volume, Cycle([heat, (over_relaxed, 4)])

    class Ours:
        """A chain of the package."""

        def __init__(self, sampler):
            self.sampler, self.state = sampler, state

        def __call__(self):
            self.state, _ = self.sampler.step(self.state, streams)

        def plaquette(self):
            return -self.state.action.item() / (BETA * 6 * space.volume)

    class Plain:
        """A chain of plain torch."""

        def __init__(self, update):
            self.update, self.links = update, state.x[0]

        def __call__(self):
            self.links = self.update(self.links)

        def plaquette(self):
            return -action(self.links).item() / (BETA * 6 * space.volume)

    def plain_sweeps(links):
        links = plain_sweep(links, torch.rand(n, len(PAIRS), 4, 4))
        for _ in range(4):
            links = plain_sweep(links, None)
        return links

    print(machine(), "\n")
    print(
        "| SU(3), 4 dimensions, complex64, beta = 6 | updates | lattice_flows, links/s | plain torch, links/s | ratio |"
    )
    print("|---|--:|--:|--:|--:|")
    name = f"{options.extent}^4, one heat-bath and four over-relaxation sweeps"
    rows = [(name, 5, Ours(cycle), Plain(plain_sweeps))]
    rows += [(f"{options.extent}^4, one HMC trajectory, {options.steps} Omelyan steps", 2 * options.steps, Ours(hmc),
              Plain(lambda links: plain_trajectory(links, action, space, options.steps)))]  # fmt: skip
    for name, updates, ours, theirs in rows:
        seconds, plain_seconds = best_of(options.rounds, ours, theirs)
        found = ours.plaquette(), theirs.plaquette()
        assert abs(found[0] - found[1]) < 0.02, f"{name}: the two do not find the same plaquette, but {found}"
        speeds = " | ".join(f"{n * updates / took:.3g}" for took in (seconds, plain_seconds))
        print(f"| {name} | {updates} | {speeds} | {plain_seconds / seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
