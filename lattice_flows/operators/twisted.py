"""The twisted loops of six links, with their derivatives along a tangent field.

Such a loop goes around three faces of a cube that meet at a corner, and is the product of their plaquettes from there.
"""

import functools
import itertools
from collections.abc import Sequence

from lattice_flows.operators.duals import Dual

UPPER, LOWER = 0, 1


def twisted_sum(sides: Sequence[tuple[Dual, Dual]], last: int) -> Dual:
    """The sum of Re tr over the four loops of six links around each cube: both parts `(*batch,)`, float64.

    Args:
        sides: for each direction the plaquettes that begin with its links, on the upper and the lower side in each
            plane, `(*batch, planes, V, N, N)`.
    """

    def face(side: int, mu: int, nu: int) -> Dual:
        return Dual(*(part[..., nu - (nu > mu), :, :, :] for part in sides[mu][side]))

    found = []
    for a, b, c in itertools.combinations(range(len(sides)), 3):
        # the corners from which the cube lies on the sides + + +, + + -, + - + and - + + of the three directions
        for one, two, inverse in (
            (face(UPPER, a, b), face(UPPER, b, c), face(UPPER, a, c)),
            (face(UPPER, a, b), face(LOWER, b, c), face(LOWER, a, c)),
            (face(LOWER, a, b), face(LOWER, c, b).adjoint(), face(UPPER, a, c)),
            (face(UPPER, b, c), face(LOWER, c, a), face(LOWER, b, a)),
        ):
            found.append((one @ two).overlap(inverse, last))
    whole = functools.reduce(Dual.__add__, found)
    return Dual(whole.value.sum(-1), whole.slope.sum(-1))
