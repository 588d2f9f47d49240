"""The algebra of Wilson loops: derivatives of products of traces, exactly, by the identity of Fierz.

A loop is a cyclic tuple of links (site, direction, sign), in the order of their product; a monomial a tuple of loops,
the product of their traces; both are on an infinite lattice. A `Sum` gives monomials their rational coefficients and
stands for sum_x Re of them, x running over the translations. With generators of inner(T_a, T_b) = delta_ab

    sum_a (T_a)_ij (T_a)_kl = A delta_il delta_jk + B delta_ij delta_kl,    (A, B) = `Group.fierz`

so that derivatives by one link split a trace in two, or join two traces: M. Luscher, 0907.5491, appendix A.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.lattice.paths import Path, rectangle, unit_steps

Site = tuple[int, ...]
Link = tuple[Site, int, int]
Loop = tuple[Link, ...]
Monomial = tuple[Loop, ...]
Sum = dict[Monomial, Fraction]

ONE: Monomial = ()
"""The monomial without loops, whose sum over x is the volume."""


class LoopAlgebra:
    """Laplacians and products of forces of sums of loops that treat all directions alike.

    Such a sum is given by one monomial of each class: W = sum over x and over the images of the monomial under the
    symmetries of the lattice, each counted once, of Re of it. A monomial and its complex conjugate are the same.

    Args:
        group: of the links; its `fierz` and N enter.
        dim: the number of dimensions, >= 2.

    Raises:
        InvalidInput: less than two dimensions.

    Example:
        >>> from lattice_flows import SU
        >>> algebra = LoopAlgebra(SU(3), 4)
        >>> algebra.laplacian({algebra.plaquette: 1})[algebra.plaquette]  # -4 C_F
        Fraction(-16, 3)
    """

    def __init__(self, group: Group, dim: int):
        if dim < 2:
            raise InvalidInput(f"loops need at least two dimensions, got {dim}")
        self.group, (self.joined, self.split) = group, group.fierz
        self.dim = dim
        self._orbits: dict[Monomial, tuple[Monomial, ...]] = {ONE: (ONE,)}
        self.plaquette = self.representative((loop_along(rectangle(0, 1, 1, 1), dim),))

    def images(self, monomial: Monomial) -> tuple[Monomial, ...]:
        """The images of a monomial under reflections and permutations of directions, but for translations."""
        standing = min(_placed(monomial), _placed(conjugate(monomial)))
        if standing not in self._orbits:
            orbit = _orbit(standing, self.dim)
            self._orbits.update(dict.fromkeys(orbit, orbit))
        return self._orbits[standing]

    def representative(self, monomial: Monomial) -> Monomial:
        """The image that stands for all of them."""
        return self.images(monomial)[0]

    def laplacian(self, operator: Mapping[Monomial, Fraction | int]) -> Sum:
        """sum over links and a of the second derivatives of W along T_a."""
        found: Sum = defaultdict(Fraction)
        for monomial, coefficient in operator.items():
            terms = (
                (first[2] * second[2] * factor, new)
                for first, second in itertools.product(_insertions(monomial), repeat=2)
                if first[3] == second[3]
                for factor, new in self._contract(monomial, first, second)
            )
            self._collect(found, terms, coefficient * len(self.images(monomial)))
        return _without_zeros(found)

    def product(self, one: Mapping[Monomial, Fraction | int], two: Mapping[Monomial, Fraction | int]) -> Sum:
        """sum over links and a of the product of the first derivatives of two operators."""
        found: Sum = defaultdict(Fraction)
        for (left, a), (right, b) in itertools.product(one.items(), two.items()):
            terms = (
                (first[2] * second[2] * factor / 2, new)
                for image in self.images(right)
                for turned in (image, conjugate(image))  # Re x Re y = Re (x y + x y*) / 2
                for first in _insertions(left)
                for second, shifted in _meeting(first, turned, len(left))
                for factor, new in self._contract(left + shifted, first, second)
            )
            self._collect(found, terms, a * b * len(self.images(left)))
        return _without_zeros(found)

    def closed(self, monomials: Iterable[Monomial]) -> tuple[Monomial, ...]:
        """These classes and all that their Laplacians lead to, but for constants."""
        found, new = [], [self.representative(monomial) for monomial in monomials]
        while new:
            monomial = new.pop(0)
            if monomial not in found and monomial != ONE:
                found.append(monomial)
                new += self.laplacian({monomial: 1})
        return tuple(found)

    def _collect(self, found: Sum, terms: Iterable[tuple[Fraction, Monomial]], factor: Fraction | int) -> None:
        """Add terms, which stand for all their images with equal coefficients, by classes."""
        for coefficient, monomial in terms:
            images = self.images(monomial)
            found[images[0]] += factor * coefficient / len(images)

    def _contract(
        self, monomial: Monomial, first: "Insertion", second: "Insertion"
    ) -> Iterator[tuple[Fraction, Monomial]]:
        """The monomials with T_a at two places, summed over a."""
        (k, p, *_), (j, q, *_) = sorted((first, second))
        if k == j:
            loop = monomial[k]
            inner, outer = loop[p:q], loop[q:] + loop[:p]
            rest = monomial[:k] + monomial[k + 1 :]
            yield from self._reduced(self.joined, (*rest, inner, outer))
            yield from self._reduced(self.split, (*rest, inner + outer))
        else:
            one, two = (monomial[i][cut:] + monomial[i][:cut] for i, cut in ((k, p), (j, q)))
            rest = tuple(loop for i, loop in enumerate(monomial) if i not in (k, j))
            yield from self._reduced(self.joined, (*rest, one + two))
            yield from self._reduced(self.split, (*rest, one, two))

    def _reduced(self, factor: Fraction, loops: Iterable[Loop]) -> Iterator[tuple[Fraction, Monomial]]:
        kept = []
        for loop in map(shortened, loops):
            if loop:
                kept.append(loop)
            else:
                factor = factor * self.group.n  # tr 1
        if factor:
            yield factor, tuple(kept)


def loop_along(path: Path, dim: int) -> Loop:
    """The loop along a path from the origin."""
    site, links = (0,) * dim, []
    for mu, sign in unit_steps(path):
        after = _step(site, mu, sign)
        links.append((min(site, after), mu, sign))
        site = after
    if any(site):
        raise InvalidInput(f"path {path} does not close")
    return tuple(links)


Insertion = tuple[int, int, int, tuple[Site, int]]
"""T_a in a monomial: the number of the loop, the place before which it stands, its sign, and the link."""


def _insertions(monomial: Monomial) -> list[Insertion]:
    """What the derivative by each link inserts: T_a before the link, or -T_a behind its inverse."""
    return [
        (k, place if sign > 0 else place + 1, sign, (site, mu))
        for k, loop in enumerate(monomial)
        for place, (site, mu, sign) in enumerate(loop)
    ]


def _meeting(first: Insertion, other: Monomial, behind: int) -> Iterator[tuple[Insertion, Monomial]]:
    """The translations of a monomial that bring one of its links to that of an insertion."""
    site, mu = first[3]
    for k, place, sign, (here, nu) in _insertions(other):
        if nu == mu:
            by = tuple(a - b for a, b in zip(site, here, strict=True))
            yield (k + behind, place, sign, first[3]), _shifted(other, by)


def path_of(loop: Loop) -> tuple[Site, Path]:
    """The site where a loop begins, and its steps."""
    site, mu, sign = loop[0]
    return site if sign > 0 else _step(site, mu, 1), tuple(link[1:] for link in loop)


def span(monomial: Monomial) -> int:
    """The number of links between the ends of a monomial in its longest direction."""
    sites = [end for loop in monomial for site, mu, _ in loop for end in (site, _step(site, mu, 1))]
    return max((max(axis) - min(axis) for axis in zip(*sites, strict=True)), default=0)


def shortened(loop: Loop) -> Loop:
    """The loop without links that are followed by their inverses."""
    kept: list[Link] = []
    for link in loop:
        if kept and kept[-1][:2] == link[:2] and kept[-1][2] == -link[2]:
            kept.pop()
        else:
            kept.append(link)
    while len(kept) > 1 and kept[0][:2] == kept[-1][:2] and kept[0][2] == -kept[-1][2]:
        kept = kept[1:-1]
    return tuple(kept)


def _step(site: Site, mu: int, by: int) -> Site:
    return (*site[:mu], site[mu] + by, *site[mu + 1 :])


def _shifted(monomial: Monomial, by: Site) -> Monomial:
    return tuple(
        tuple((tuple(map(sum, zip(site, by, strict=True))), mu, sign) for site, mu, sign in loop) for loop in monomial
    )


def conjugate(monomial: Monomial) -> Monomial:
    """The monomial of the inverse loops."""
    return tuple(tuple((site, mu, -sign) for site, mu, sign in reversed(loop)) for loop in monomial)


def _placed(monomial: Monomial) -> Monomial:
    """The same for all translations, cyclic turns of loops and orders of them."""
    if not monomial:
        return ONE
    sites = [site for loop in monomial for site, _, _ in loop]
    corner = tuple(-min(axis) for axis in zip(*sites, strict=True))
    turns = ([loop[k:] + loop[:k] for k in range(len(loop))] for loop in _shifted(monomial, corner))
    return tuple(sorted(min(own) for own in turns))


def _mapped(monomial: Monomial, order: tuple[int, ...], signs: tuple[int, ...]) -> Monomial:
    """The image under x_mu -> signs[mu] x_mu, put at direction order[mu]."""

    def image(site: Site) -> Site:
        moved = [0] * len(site)
        for mu, x in enumerate(site):
            moved[order[mu]] = signs[mu] * x
        return tuple(moved)

    def link(site: Site, mu: int, sign: int) -> Link:
        begin = site if signs[mu] > 0 else _step(site, mu, 1)
        return image(begin), order[mu], sign * signs[mu]

    return tuple(tuple(link(*own) for own in loop) for loop in monomial)


def _orbit(monomial: Monomial, dim: int) -> tuple[Monomial, ...]:
    moved = (
        _mapped(monomial, order, signs)
        for order in itertools.permutations(range(dim))
        for signs in itertools.product((1, -1), repeat=dim)
    )
    return tuple(sorted({min(_placed(image), _placed(conjugate(image))) for image in moved}))


def _without_zeros(found: Sum) -> Sum:
    return {monomial: coefficient for monomial, coefficient in found.items() if coefficient}
