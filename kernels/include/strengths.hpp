// The field strength of the clover in lanes, and what is made of it.
#pragma once
#include "momenta.hpp"
#include "sublattices.hpp"

// inner(X, Y) / 2: -tr XY, or XY / 2 of angles
template <int N> INLINE vec half_inner(const Momentum<N>& p, const Momentum<N>& q) {
    vec sum = {};
    for (int k = 0; k < p.PAIRS; k++) sum += 2 * (p.re[k] * q.re[k] + p.im[k] * q.im[k]);
    for (int i = 0; i < N; i++) sum += p.d[i] * q.d[i];
    return sum;
}
INLINE vec half_inner(const Momentum<2>& p, const Momentum<2>& q) { return 2 * (p.x * q.x + p.y * q.y + p.z * q.z); }
INLINE vec half_inner(const Momentum<1>& p, const Momentum<1>& q) { return real(0.5) * p.angle * q.angle; }

// Half of what `kick` takes of U(1), whose force is that of half of the action of SU(N).
template <int N> constexpr real PART_OF_KICK = N == 1 ? 0.5 : 1;

// F_{mu nu} of a site, the mean of the four plaquettes that meet there in the algebra; returns Re tr of the one ahead. Two of
// them end in U_mu(x - mu) or begin in U_mu(x), if those below are turned around and subtracted: ten products in all.
template <int N> __attribute__((noinline)) vec field_strength(const Sublattices& lattice, const Field<Link<N>>& field, int32_t site,
                                                              int part, int mu, int nu, Momentum<N>& strength) {
    const Place here{site, 0}, back = lattice.down(here, mu), below = lattice.down(here, nu), corner = lattice.down(back, nu);
    const auto at = [&](Place p, int direction, Link<N>& room) -> const Link<N>& {
        return field.fetch(lattice, p, direction, part, room);
    };
    Link<N> path, sum, loops, room[2];
    const Link<N>&own_mu = *field.at(site, mu, part), &own_nu = *field.at(site, nu, part);

    link_product<false, true, false>(at(lattice.up(here, mu), nu, room[0]), at(lattice.up(here, nu), mu, room[1]), path);
    link_product<false, true, false>(path, own_nu, sum);
    const vec plaquette = retrace(own_mu, sum);
    link_product<false, false, false>(at(below, mu, room[0]), at(lattice.up(below, mu), nu, room[1]), path);
    path.scale(real(-1));
    link_product<true, false, true>(path, at(below, nu, room[0]), sum);
    link_product<false, false, false>(own_mu, sum, loops);

    link_product<false, false, false>(at(back, nu, room[0]), at(lattice.up(back, nu), mu, room[1]), path);
    link_product<false, true, false>(own_nu, path, sum);
    link_product<true, false, false>(at(corner, mu, room[0]), at(corner, nu, room[1]), path);
    path.scale(real(-1));
    link_product<true, false, true>(at(below, nu, room[0]), path, sum);
    link_product<false, false, true>(sum, at(back, mu, room[0]), loops);

    strength = Momentum<N>{};
    kick(loops, splat<vec>(-0.25 * PART_OF_KICK<N>), strength);
    return plaquette;
}

// Sums over the sites: over planes of 1 - P, traced, and of inner(F, F) / 2, and in four dimensions of half of the inner
// product of F and its dual, which is sum over nu of inner(F_{0 nu}, dual F_{0 nu}) / 2.
struct Strengths {
    double plaquette[NODES] = {}, clover[NODES] = {}, dual[NODES] = {};

    template <int N> void add(const Sublattices& lattice, const Field<Link<N>>& field, int32_t site) {
        for (int part = 0; part < PARTS; part++) {
            Momentum<N> strength[6];
            vec missing = {}, energies = {}, products = {};
            int plane = 0;
            for (int mu = 0; mu < lattice.dim; mu++)
                for (int nu = mu + 1; nu < lattice.dim; nu++, plane++) {
                    missing += real(N) - field_strength(lattice, field, site, part, mu, nu, strength[plane]);
                    energies += half_inner(strength[plane], strength[plane]);
                }
            if (lattice.dim == 4)  // planes 01 02 03 12 13 23
                products = half_inner(strength[0], strength[5]) - half_inner(strength[1], strength[4]) +
                           half_inner(strength[2], strength[3]);
            for (int l = 0; l < L; l++) {
                plaquette[part * L + l] += double(missing[l]);
                clover[part * L + l] += double(energies[l]);
                dual[part * L + l] += double(products[l]);
            }
        }
    }
};
