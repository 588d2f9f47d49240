// Plaquettes and 1 x 2 rectangles together: sums of staples, and the action.
//
// A path from x + mu to x + s nu, s = 1 or -1, goes past the corner between them, or around one of the two plaquettes
// beyond it. With U_mu(x), and a way back to x, these three are a plaquette and two rectangles.
#pragma once
#include "staples.hpp"

// The weights of planes, and of rectangles with the long side along mu, the short one along nu. Where those of rectangles
// are all the same, sums are in units of it until they are done.
struct LoopCouplings {
    double plaquette[DIMS][DIMS], rectangle[DIMS][DIMS], unit = 1;

    LoopCouplings(int dim, const double* weights) {
        const double* longer = weights + dim * dim;
        bool equal = std::abs(longer[1]) > 1e-6 * std::abs(weights[1]);
        for (int mu = 0; mu < dim; mu++)
            for (int nu = 0; nu < dim; nu++) equal &= mu == nu || longer[mu * dim + nu] == longer[1];
        if (equal) unit = longer[1];
        for (int mu = 0; mu < dim; mu++)
            for (int nu = 0; nu < dim; nu++) {
                plaquette[mu][nu] = weights[mu * dim + nu] / unit;
                rectangle[mu][nu] = longer[mu * dim + nu] / unit;
            }
    }
    INLINE real strength() const { return 1; }  // sums of staples are with their weights
    template <int N> INLINE void scale(Link<N>& path, int mu, int nu) const {
        if (rectangle[mu][nu] != 1) path.scale(real(rectangle[mu][nu]));
    }
};

// The path past the corner, and the weighted sum of those around the plaquettes beyond it: seven products.
template <bool up, int N> __attribute__((noinline)) void detours(const Sublattices& lattice, const Field<Link<N>>& field,
                                                                 const LoopCouplings& couplings, int32_t site, int part,
                                                                 int mu, int nu, Link<N>& corner, Link<N>& around) {
    const Place here{site, 0}, next = lattice.up(here, mu);
    const auto beside = [&](Place p) { return up ? lattice.up(p, nu) : lattice.down(p, nu); };
    const auto rung = [&](Place p) { return up ? p : lattice.down(p, nu); };  // where the link between p and beside(p) is kept
    Link<N> room[2], path, longer;
    const auto get = [&](Place p, int direction, int k) -> const Link<N>& {
        return field.fetch(lattice, p, direction, part, room[k]);
    };
    link_product<!up, true, false>(get(rung(next), nu, 0), get(beside(here), mu, 1), corner);
    // U_mu(x + mu), up or down, and back twice
    link_product<false, !up, false>(get(next, mu, 0), get(rung(lattice.up(next, mu)), nu, 1), path);
    couplings.scale(path, mu, nu);
    link_product<false, true, false>(path, get(beside(next), mu, 0), longer);
    link_product<false, true, false>(longer, get(beside(here), mu, 0), around);
    // up or down twice, and back
    link_product<!up, true, false>(get(rung(beside(next)), nu, 0), get(beside(beside(here)), mu, 1), path);
    couplings.scale(path, nu, mu);
    link_product<false, up, false>(path, get(rung(beside(here)), nu, 0), longer);
    link_product<!up, false, true>(get(rung(next), nu, 0), longer, around);
}

// As for plaquettes alone. What no link of the site enters is made once for both links of a plane: 30 products.
template <int N, class F> INLINE void each_link(const Sublattices& lattice, const Field<Link<N>>& field,
                                                const LoopCouplings& couplings, int32_t site, int part, F f) {
    const Place here{site, 0};
    Link<N> ahead[DIMS][DIMS], sums[DIMS] = {}, back[DIMS] = {}, corner, around, across, room[2];
    for (int mu = 0; mu < lattice.dim; mu++)
        for (int nu = mu + 1; nu < lattice.dim; nu++) {
            const int direction[2] = {mu, nu};
            Link<N> below[2];  // the corners, and then the staples, on the other side of U_mu and U_nu
            const Place left = lattice.down(here, mu);
            link_product<true, false, false>(field.fetch(lattice, lattice.down(left, nu), nu, part, room[0]),
                                             field.fetch(lattice, lattice.down(left, nu), mu, part, room[1]), across);
            for (int k = 0; k < 2; k++) {
                const int own = direction[k], other = direction[1 - k];
                detours<false>(lattice, field, couplings, site, part, own, other, corner, around);
                const Link<N>& last = field.fetch(lattice, lattice.down(here, other), other, part, room[0]);
                link_product<false, false, false>(corner, last, below[k]);
                link_product<false, false, true>(around, last, sums[own]);
                add(splat<vec>(couplings.plaquette[mu][nu]), below[k], sums[own]);
                // past the corner, and beyond the end of the link, to x - own
                couplings.scale(corner, own, other);
                if (k == 0) link_product<false, true, true>(corner, across, back[own]);
                else link_product<false, false, true>(corner, across, back[own]);
            }
            detours<true>(lattice, field, couplings, site, part, mu, nu, corner, ahead[mu][nu]);
            add(splat<vec>(couplings.plaquette[mu][nu]), corner, ahead[mu][nu]);
            couplings.scale(below[1], mu, nu);
            link_product<false, false, true>(corner, below[1], sums[mu]);
            couplings.scale(below[0], nu, mu);
            link_product<true, false, true>(corner, below[0], sums[nu]);
        }
    for (int mu = 0; mu < lattice.dim; mu++) {
        link_product<false, false, true>(back[mu], field.fetch(lattice, lattice.down(here, mu), mu, part, room[0]), sums[mu]);
        for (int nu = 0; nu < lattice.dim; nu++) {
            const Link<N>& own = *field.at(site, nu, part);
            if (mu < nu) link_product<false, true, true>(ahead[mu][nu], own, sums[mu]);
            if (nu < mu) link_product<true, true, true>(ahead[nu][mu], own, sums[mu]);
        }
        sums[mu].scale(real(couplings.unit));
        f(*field.at(site, mu, part), sums[mu], mu);
    }
}

// As for plaquettes alone, with the rectangles that begin at the site.
template <int N> void add_plaquettes(const Sublattices& lattice, const Field<Link<N>>& field, const LoopCouplings& couplings,
                                     int32_t site, double (&total)[NODES], double factor = 1) {
    Link<N> corner, around, path;
    for (int part = 0; part < PARTS; part++)
        for (int mu = 0; mu < lattice.dim; mu++)
            for (int nu = mu + 1; nu < lattice.dim; nu++) {
                detours<true>(lattice, field, couplings, site, part, mu, nu, corner, around);
                add(splat<vec>(couplings.plaquette[mu][nu]), corner, around);
                link_product<false, false, false>(*field.at(site, mu, part), around, path);
                const vec found = overlap(path, *field.at(site, nu, part));
                for (int l = 0; l < L; l++) total[part * L + l] += factor * couplings.unit * double(found[l]);
            }
}
