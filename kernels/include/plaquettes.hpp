// The force of plaquettes on the momenta of their links.
#pragma once
#include "momenta.hpp"
#include "staples.hpp"

// p -= factor times the traceless anti-Hermitian part of a b, or of a^dagger b; `opposite` is kicked the other way.
template <bool adjoint_a, int N>
INLINE void kick_product(const Link<N>& a, const Link<N>& b, vec factor, Momentum<N>& p, Momentum<N>* opposite = nullptr) {
    Link<N> product;
    link_product<adjoint_a, false, false>(a, b, product);
    kick(product, factor, p);
    if (opposite) kick(product, -factor, *opposite);
}

// The same for SU(3), without what the anti-Hermitian part leaves out. Not inline, as `link_product`.
template <bool adjoint_a>
__attribute__((noinline)) void kick_product(const Link<3>& a, const Link<3>& b, vec factor, Momentum<3>& p,
                                            Momentum<3>* opposite = nullptr) {
    vec re[3] = {}, im[3] = {}, d[3] = {};
#pragma GCC unroll 3
    for (int k = 0; k < 3; k++)
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++) {
            const vec ar = adjoint_a ? a.re[k][i] : a.re[i][k], ai = adjoint_a ? a.im[k][i] : a.im[i][k];
#pragma GCC unroll 3
            for (int j = 0; j < 3; j++) {
                const vec br = b.re[k][j], bi = b.im[k][j];
                if (i == j) {
                    d[i] += ar * bi;
                    d[i] += adjoint_a ? -(ai * br) : ai * br;
                } else {
                    const int pair = i + j - 1;
                    re[pair] += i < j ? ar * br : -(ar * br);
                    re[pair] += (i < j) != adjoint_a ? -(ai * bi) : ai * bi;
                    im[pair] += ar * bi;
                    im[pair] += adjoint_a ? -(ai * br) : ai * br;
                }
            }
        }
    const vec trace = (d[0] + d[1] + d[2]) * real(1.0 / 3);
    const vec half = real(0.5) * factor;
    for (int i = 0; i < 3; i++) {
        d[i] -= trace;
        p.d[i] -= factor * d[i], p.re[i] -= half * re[i], p.im[i] -= half * im[i];
        if (opposite) opposite->d[i] += factor * d[i], opposite->re[i] += half * re[i], opposite->im[i] += half * im[i];
    }
}

// Kicks the momenta of all links of the plaquettes P = a b c^dagger d^dagger of a site, a = U_mu(x) and d = U_nu(x). The
// loops that begin with b and with c^dagger are (b c^dagger d^dagger) a and d^dagger (a b c^dagger), so that six products
// serve the four links. The sum over the planes of weight times Re tr P goes to `action`, with a minus, unless it is null.
template <int N, class Weights>
INLINE void kick_plaquettes(const Sublattices& lattice, const Field<Link<N>>& links, const Field<Momentum<N>>& momenta,
                            const Weights& couplings, const PerNode& size, int32_t site, double (*action)[NODES]) {
    const Place here{site, 0};
    Ahead<Momentum<N>> next(lattice, momenta, site);
    for (int part = 0; part < PARTS; part++) {
        Link<N> ahead[2], left, right;
        Momentum<N> own[DIMS];
        vec sum = {};
        double weight[2];
        const auto meet = [&](int mu, int nu, int plane) {
            weight[plane % 2] = couplings.template weighed<false, true>(
                links.see(lattice, lattice.up(here, mu), nu, part),
                links.see(lattice, lattice.up(here, nu), mu, part), mu, nu, lattice, here, part, ahead[plane % 2]);
        };
        for (int mu = 0; mu < lattice.dim; mu++) own[mu] = *momenta.at(site, mu, part);
        meet(0, 1, 0);
        for (int mu = 0, plane = 0; mu < lattice.dim; mu++)
            for (int nu = mu + 1; nu < lattice.dim; nu++, plane++) {
                const Link<N>&a = *links.at(site, mu, part), &d = *links.at(site, nu, part);
                const vec factor = size.part[part] * real(0.5 * weight[plane % 2]);
                link_product<false, true, false>(ahead[plane % 2], d, right);
                link_product<false, false, false>(a, ahead[plane % 2], left);
                // of the next plane already: one product need not wait for the other
                if (nu + 1 < lattice.dim) meet(mu, nu + 1, plane + 1);
                else if (mu + 2 < lattice.dim) meet(mu + 1, mu + 2, plane + 1);
                kick_product<false>(a, right, factor, own[mu], &own[nu]);
                kick_product<true>(d, left, -factor, next.at(mu, nu, part));
                kick_product<false>(right, a, factor, next.at(nu, mu, part));
                if (action) sum += real(weight[plane % 2]) * overlap(left, d);
            }
        if (action)
            for (int l = 0; l < L; l++) (*action)[part * L + l] -= double(sum[l]);
        for (int mu = 0; mu < lattice.dim; mu++) *momenta.at(site, mu, part) = own[mu];
    }
    next.finish();
}
