// link_slices for CPUs: products of loops that share a link, summed over time slices, with their derivatives along tangent
// fields of single slices.
#include "links.hpp"
#include "sublattices.hpp"

constexpr int N = SIZE;

namespace {

// The kinds of the reference, in its order; and those that have a derivative by a neighbouring slice.
enum Kind { SPACE, SPACE_PLANAR, SPACE_BENT, BOTH_SIDES, TIME, UP, DOWN, TIME_PLANAR, TIME_BENT, KINDS };
constexpr int FIRST = TIME, SLOPES = 2 * KINDS - FIRST, SUMS = KINDS + SLOPES, PRODUCTS = 4;

// A loop, or a derivative of it, and its trace.
struct Loop {
    Link<N> m = {};
    vec re = {}, im = {};

    INLINE void traced() { trace(m, re, im); }
};

INLINE Loop operator+(const Loop& a, const Loop& b) {
    Loop sum;
    add(a.m, b.m, sum.m);
    sum.re = a.re + b.re, sum.im = a.im + b.im;
    return sum;
}

INLINE void set_adjoint(const Link<N>& m, Loop& loop) { turned(vec{}, splat<vec>(1), m, loop.m), loop.traced(); }
INLINE void set(const Link<N>& m, Loop& loop) { loop.m = m, loop.traced(); }

// u^dagger m u, or that of m^dagger
template <bool adjoint> INLINE void set_turned(const Link<N>& u, const Link<N>& m, Loop& loop) {
    Link<N> half;
    link_product<true, adjoint, false>(u, m, half);
    link_product<false, false, false>(half, u, loop.m);
    loop.traced();
}

// d + m x - x m, for an anti-Hermitian x
INLINE void add_commutator(const Link<N>& m, const Link<N>& x, Link<N>& d) {
    link_product<false, false, true>(m, x, d);
    link_product<true, false, true>(x, m, d);
}

struct Sums {
    vec values[SUMS][PRODUCTS] = {};

    // Re tr a b^dagger, Re tr a b, Re tr a (tr b)*, Re tr a tr b
    INLINE void add_products(int kind, const Loop& a, const Loop& b) {
        vec(&to)[PRODUCTS] = values[kind];
        to[0] += overlap(a.m, b.m), to[1] += retrace(a.m, b.m);
        to[2] += a.re * b.re + a.im * b.im, to[3] += a.re * b.re - a.im * b.im;
    }
    // Re tr a, Re tr a a, |tr a|^2, Re (tr a)^2
    INLINE void add_squares(int kind, const Loop& a) {
        vec(&to)[PRODUCTS] = values[kind];
        to[0] += a.re, to[1] += retrace(a.m, a.m);
        to[2] += a.re * a.re + a.im * a.im, to[3] += a.re * a.re - a.im * a.im;
    }
    INLINE void add_squares(int kind, const Loop& a, const Loop& da) {
        vec(&to)[PRODUCTS] = values[kind];
        to[0] += da.re, to[1] += 2 * retrace(a.m, da.m);
        to[2] += 2 * (a.re * da.re + a.im * da.im), to[3] += 2 * (a.re * da.re - a.im * da.im);
    }
    INLINE void add_products(int kind, const Loop& a, const Loop& da, const Loop& b, const Loop& db) {
        add_products(kind, da, b), add_products(kind, a, db);
    }
};

constexpr int own(int kind) { return KINDS + kind; }                  // the derivative by the slice itself
constexpr int other(int kind) { return 2 * KINDS + kind - FIRST; }    // and by its neighbour

struct Slices {
    const Bundle& bundle;
    const Sublattices& lattice;
    const int time;
    const Field<Link<N>> links, tangents;
    // plaquettes P_{mu nu} in space and their derivatives; P_{mu t}, and their derivatives by either slice
    const Field<Link<N>> space, space_slope, timelike, here_slope, next_slope;
    std::vector<double> totals;  // (t of the sublattices, sum, product, node)

    explicit Slices(const Bundle& bundle_)
        : bundle(bundle_), lattice(bundle.lattice), time(lattice.dim - 1), links(lattice), tangents(lattice), space(lattice, time * (time - 1) / 2),
          space_slope(lattice, time * (time - 1) / 2), timelike(lattice, time), here_slope(lattice, time),
          next_slope(lattice, time), totals(lattice.extent[time] * SUMS * PRODUCTS * NODES) {}
    bool room() const {
        return links.data && tangents.data && space.data && space_slope.data && timelike.data && here_slope.data &&
               next_slope.data;
    }
    static INLINE int plane(int mu, int nu) { return mu + nu - 1; }  // of two or three directions of space

    void multiply_links(int32_t site) const {
        const Place here{site, 0};
        Link<N> room[3], across, way, inside;
        for (int part = 0; part < PARTS; part++)
            for (int mu = 0; mu < time; mu++) {
                const Link<N>&a = *links.at(site, mu, part), &xa = *tangents.at(site, mu, part);
                for (int nu = mu + 1; nu < time; nu++) {
                    const Place right = lattice.up(here, mu), above = lattice.up(here, nu);
                    const Link<N>&d = *links.at(site, nu, part), &xd = *tangents.at(site, nu, part);
                    Link<N>&p = *space.at(site, plane(mu, nu), part), &slope = *space_slope.at(site, plane(mu, nu), part);
                    link_product<false, true, false>(links.fetch(lattice, right, nu, part, room[0]),
                                                     links.fetch(lattice, above, mu, part, room[1]), across);
                    link_product<false, false, false>(a, across, way);
                    link_product<false, true, false>(way, d, p);
                    link_product<false, true, false>(across, tangents.fetch(lattice, above, mu, part, room[0]), inside);
                    link_product<false, false, true>(tangents.fetch(lattice, right, nu, part, room[1]), across, inside);
                    link_product<false, false, false>(a, inside, way);
                    link_product<false, true, false>(way, d, slope);
                    link_product<false, false, true>(xa, p, slope);
                    link_product<false, true, true>(p, xd, slope);
                }
                const Place later = lattice.up(here, time);
                const Link<N>& d = *links.at(site, time, part);
                Link<N>& p = *timelike.at(site, mu, part);
                link_product<false, true, false>(links.fetch(lattice, lattice.up(here, mu), time, part, room[0]),
                                                 links.fetch(lattice, later, mu, part, room[1]), across);
                link_product<false, false, false>(a, across, way);
                link_product<false, true, false>(way, d, p);
                link_product<false, false, false>(xa, p, *here_slope.at(site, mu, part));
                link_product<false, true, false>(way, tangents.fetch(lattice, later, mu, part, room[2]), inside);
                link_product<false, true, false>(inside, d, *next_slope.at(site, mu, part));
            }
    }

    // Loops that begin with a link in space.
    INLINE void add_space(int32_t site, int mu, int part, Sums& sums) const {
        const Place here{site, 0};
        Link<N> room[4], inside;
        Loop all, slope_of_all;
        for (int nu = 0; nu < time; nu++) {
            if (nu == mu) continue;
            Loop above, slope_above, below, slope_below;
            const int own_plane = plane(mu, nu);
            const Link<N>&p = *space.at(site, own_plane, part), &dp = *space_slope.at(site, own_plane, part);
            const Place back = lattice.down(here, nu);
            const Link<N>&q = space.fetch(lattice, back, own_plane, part, room[0]),
                  &dq = space_slope.fetch(lattice, back, own_plane, part, room[1]),
                  &u = links.fetch(lattice, back, nu, part, room[2]), &x = tangents.fetch(lattice, back, nu, part, room[3]);
            inside = dq;
            add_commutator(q, x, inside);
            if (mu < nu) {
                set(p, above), set(dp, slope_above), set_turned<true>(u, q, below), set_turned<true>(u, inside, slope_below);
                sums.add_squares(SPACE, above), sums.add_squares(own(SPACE), above, slope_above);
            } else {
                set_adjoint(p, above), set_adjoint(dp, slope_above);
                set_turned<false>(u, q, below), set_turned<false>(u, inside, slope_below);
            }
            sums.add_products(SPACE_PLANAR, above, below);
            sums.add_products(own(SPACE_PLANAR), above, slope_above, below, slope_below);
            const Loop both = above + below, slope_of_both = slope_above + slope_below;
            sums.add_products(SPACE_BENT, all, both);
            sums.add_products(own(SPACE_BENT), all, slope_of_all, both, slope_of_both);
            all = all + both, slope_of_all = slope_of_all + slope_of_both;
        }
        Loop up, up_here, up_next, down, down_here, down_before;
        const Place before = lattice.down(here, time);
        const Link<N>& u = links.fetch(lattice, before, time, part, room[0]);
        set(*timelike.at(site, mu, part), up), set(*here_slope.at(site, mu, part), up_here);
        set(*next_slope.at(site, mu, part), up_next);
        set_turned<true>(u, timelike.fetch(lattice, before, mu, part, room[1]), down);
        set_turned<true>(u, next_slope.fetch(lattice, before, mu, part, room[2]), down_here);
        set_turned<true>(u, here_slope.fetch(lattice, before, mu, part, room[3]), down_before);
        sums.add_squares(TIME, up), sums.add_squares(own(TIME), up, up_here), sums.add_squares(other(TIME), up, up_next);
        sums.add_products(BOTH_SIDES, up, down), sums.add_products(own(BOTH_SIDES), up, up_here, down, down_here);
        sums.add_products(UP, all, up), sums.add_products(own(UP), all, slope_of_all, up, up_here);
        sums.add_products(other(UP), all, up_next);
        sums.add_products(DOWN, all, down), sums.add_products(own(DOWN), all, slope_of_all, down, down_here);
        sums.add_products(other(DOWN), all, down_before);
    }

    // Loops that begin with a link in time.
    INLINE void add_time(int32_t site, int part, Sums& sums) const {
        const Place here{site, 0};
        Link<N> room[5], inside;
        Loop all, all_here, all_next;
        for (int nu = 0; nu < time; nu++) {
            Loop above, above_here, above_next, below, below_here, below_next;
            set_adjoint(*timelike.at(site, nu, part), above), set_adjoint(*here_slope.at(site, nu, part), above_here);
            set_adjoint(*next_slope.at(site, nu, part), above_next);
            const Place back = lattice.down(here, nu);
            const Link<N>&q = timelike.fetch(lattice, back, nu, part, room[0]),
                  &u = links.fetch(lattice, back, nu, part, room[1]);
            inside = here_slope.fetch(lattice, back, nu, part, room[2]);
            add_commutator(q, tangents.fetch(lattice, back, nu, part, room[3]), inside);
            set_turned<false>(u, q, below), set_turned<false>(u, inside, below_here);
            set_turned<false>(u, next_slope.fetch(lattice, back, nu, part, room[4]), below_next);
            sums.add_products(TIME_PLANAR, above, below);
            sums.add_products(own(TIME_PLANAR), above, above_here, below, below_here);
            sums.add_products(other(TIME_PLANAR), above, above_next, below, below_next);
            const Loop both = above + below, both_here = above_here + below_here, both_next = above_next + below_next;
            sums.add_products(TIME_BENT, all, both), sums.add_products(own(TIME_BENT), all, all_here, both, both_here);
            sums.add_products(other(TIME_BENT), all, all_next, both, both_next);
            all = all + both, all_here = all_here + both_here, all_next = all_next + both_next;
        }
    }

    void add_up(int32_t site) {
        double* to = &totals[site / lattice.stride[time] % lattice.extent[time] * SUMS * PRODUCTS * NODES];
        for (int part = 0; part < PARTS; part++) {
            Sums sums;
            for (int mu = 0; mu < time; mu++) add_space(site, mu, part, sums);
            add_time(site, part, sums);
            for (int k = 0; k < SUMS * PRODUCTS; k++)
                for (int l = 0; l < L; l++) to[k * NODES + part * L + l] += double(sums.values[k / PRODUCTS][k % PRODUCTS][l]);
        }
    }

    void run(const real* links_in, const real* tangents_in) {
        for (int64_t site = 0; site < lattice.sites; site++)
            pack(bundle, links_in, links, site), pack(bundle, tangents_in, tangents, site);
        for (int64_t site = 0; site < lattice.sites; site++) multiply_links(site);
        for (int64_t site = 0; site < lattice.sites; site++) add_up(site);
    }
    // The sums of the i-th chain of the bundle.
    void evaluate(int64_t i, double* values, double* slopes) const {
        const int64_t last = lattice.extent[time] * lattice.nodes[time];
        std::fill(values, values + last * KINDS * PRODUCTS, 0), std::fill(slopes, slopes + last * SLOPES * PRODUCTS, 0);
        for (int64_t t = 0; t < last; t++)
            for (int k = 0; k < SUMS * PRODUCTS; k++)
                bundle.each(i, [&](int node) {
                    if (lattice.node[node][time] != t / lattice.extent[time]) return;
                    const double sum = totals[(t % lattice.extent[time] * SUMS * PRODUCTS + k) * NODES + node];
                    const int slope = k - KINDS * PRODUCTS;
                    (slope < 0 ? values[t * KINDS * PRODUCTS + k] : slopes[t * SLOPES * PRODUCTS + slope]) += sum;
                });
    }
};

}  // namespace

// values (chains, T, KINDS, PRODUCTS) and slopes (chains, T, SLOPES, PRODUCTS). Returns for how many chains there is no memory.
extern "C" int64_t link_slices(const real* links, const real* tangents, int64_t chains, int64_t dim, const int64_t* extents,
                               const int64_t* nodes, double* values, double* slopes, int64_t threads) {
    const Sublattices lattice(dim, extents, nodes);
    const int64_t last = extents[dim - 1];
    int64_t failed = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : failed) if (threads > 1)
    for (int64_t number = 0; number < lattice.bundles(chains); number++) {
        const Bundle bundle(lattice, number, chains);
        Slices own(bundle);
        if (!own.room()) {
            failed += bundle.count;
            continue;
        }
        own.run(links, tangents);
        for (int64_t i = 0, k = bundle.first; i < bundle.count; i++, k++)
            own.evaluate(i, values + k * last * KINDS * PRODUCTS, slopes + k * last * SLOPES * PRODUCTS);
    }
    return failed;
}
