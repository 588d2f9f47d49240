"""Trains the level of one cut, on its own, for several designs: the divergence a split, in minutes.

python experiments/one_split/one_split.py --group "SU(3)" --beta 6 --areas 1,1 c cab crab crarbrc
"""

import argparse
import time

import torch

from lattice_flows.actions import Wilson
from lattice_flows.config import Config, TrainingConfig
from lattice_flows.flows import Flow
from lattice_flows.flows.recipe import seeded
from lattice_flows.groups import Group, from_name
from lattice_flows.lattice import GaugeField
from lattice_flows.planar.level import Level
from lattice_flows.planar.level_training import level_stages
from lattice_flows.planar.loop_density import plaquettes
from lattice_flows.planar.splits import POOL, RECTANGLE, one_rectangle, split
from lattice_flows.statistics import ess, forward_ess
from lattice_flows.streams import keyed
from lattice_flows.training import TrainingState, train


def one_split(
    group: Group, beta: float, areas: tuple[int, int], design: str, settings: TrainingConfig, n: int, **networks
) -> dict:
    """Divergences in both directions, and the scatter of log w, after training a level of this design."""
    space = GaugeField(group, RECTANGLE)
    action = Wilson(space, beta)
    pool = plaquettes(group, beta, POOL, keyed(settings.seed, "measured plaquettes"))
    with seeded(settings.seed):
        level = Level.of_design(design, group, one_rectangle(), areas, **networks)
    begin = time.process_time()
    whole = Flow(space, [level])
    for _ in train(
        TrainingState.start(whole, settings), action, settings, stages=level_stages(whole, action, settings)
    ):
        pass
    seconds = time.process_time() - begin
    flow, prior, target = split(level, action, pool, settings.seed, broad=0.0)
    generator = keyed(settings.seed, "measurement")
    with torch.no_grad():
        links, log_q = flow.sample(n, generator=generator)
        reverse = (-target(links) - log_q).double()
        links = prior.target(n, generator, torch.float32)
        forward = (-target(links) - flow.log_prob(links)).double()
    return {
        "KL(q|p)": -reverse.mean().item(),
        "KL(p|q)": forward.mean().item(),
        "std log w": reverse.std().item(),
        "ESS": ess(reverse).item(),
        "forward ESS": forward_ess(forward)[0].item(),
        "CPU s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("designs", nargs="+", help="letters of lattice_flows.planar.level.SUBLAYERS")
    parser.add_argument("--group", default="SU(3)")
    parser.add_argument("--beta", type=float, default=6.0)
    parser.add_argument("--areas", default="1,1", help="plaquettes in the two parts (%(default)s)")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rate", type=float, default=0.05, help="learning rate (%(default)s)")
    parser.add_argument("--estimator", default="path", choices=("path", "log_ratio"))
    parser.add_argument("--optimizer", default="soap", choices=("soap", "adam"))
    parser.add_argument("--bins", type=int, default=8, help="of spline maps (%(default)s)")
    parser.add_argument("--hidden", type=int, default=32, help="width of the perceptrons (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-n", type=int, default=65536, help="splits that are measured (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    areas = tuple(map(int, arguments.areas.split(",")))
    config = Config.of(
        lattice={"group": arguments.group, "extents": RECTANGLE.extents},
        action={"beta": arguments.beta},
        flow={"architecture": "hierarchical"},
        training={
            "steps": 0,
            "level_steps": arguments.steps,
            "level_learning_rate": arguments.rate,
            "level_estimator": arguments.estimator,
            "optimizer": arguments.optimizer,
            "warmup": 20,
            "seed": arguments.seed,
        },
    )
    for k, design in enumerate(arguments.designs):
        networks = {"bins": arguments.bins, "hidden": (arguments.hidden,) * 2}
        row = one_split(
            from_name(arguments.group), arguments.beta, areas, design, config.training, arguments.n, **networks
        )
        if k == 0:
            print("design".ljust(10) + "".join(name.rjust(13) for name in row))
        print(design.ljust(10) + "".join(f"{value:13.5f}" for value in row.values()), flush=True)


if __name__ == "__main__":
    main()
