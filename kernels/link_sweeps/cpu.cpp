// link_sweeps for CPUs: heat bath and over-relaxation of the links of lattices, in 16 lanes.
#define SAME_BITS
#include "numbers.hpp"
#include "rectangles.hpp"

constexpr int N = SIZE, PAIRS = N * (N - 1) / 2, ATTEMPTS = 16;
// Of loops over subgroups: unrolled they leave out what no later subgroup asks for. Of more of them the code is too long.
constexpr int UNROLL = N <= 4 ? 8 : 1;

namespace {

// Rounding is taken out of the link if it is to be `restored`.
template <int N> __attribute__((noinline)) void relax(Link<N>& link, const Link<N>& sum, bool restored) {
    Link<N> product;
    link_product<false, false, false>(link, sum, product);
    Link<N> u = link;
    int pair = 0;
#pragma GCC unroll UNROLL
    for (int p = 0; p < N - 1; p++)
#pragma GCC unroll UNROLL
        for (int q = p + 1; q < N; q++, pair++) {
            Quaternion v = block(product, p, q);
            const vec vector = v.x * v.x + v.y * v.y + v.z * v.z, square = v.w * v.w + vector;
            const auto still = square < traits<vec>::tiny;
            const vec inverse = 1 / select<vec>(still, splat<vec>(1), square), twice = -2 * v.w * inverse;
            v = {(v.w * v.w - vector) * inverse, twice * v.x, twice * v.y, twice * v.z};
            v.w = select<vec>(still, splat<vec>(1), v.w);
            turn(u, p, q, v);
            if (pair + 1 < PAIRS) turn(product, p, q, v);
        }
    if (restored) neaten(u);
    link = u;
}

// Not inline, as it is long.
__attribute__((noinline)) mask_of<vec> draw_in(int pair, const vec& k, const Numbers& numbers, Quaternion& b) {
    return draw(k, ATTEMPTS, [&](int i, vec (&r)[4]) { numbers(pair * ATTEMPTS + i, r); }, b);
}

template <int N> __attribute__((noinline)) void heat(Link<N>& link, const Link<N>& sum, real strength, const Numbers& numbers) {
    Link<N> product;
    link_product<false, false, false>(link, sum, product);
    Link<N> u = link;
    mask_of<vec> moved = {};
    int pair = 0;
#pragma GCC unroll UNROLL
    for (int p = 0; p < N - 1; p++)
#pragma GCC unroll UNROLL
        for (int q = p + 1; q < N; q++, pair++) {
            Quaternion direction;
            const vec k = part(product, p, q, direction) * (2 * strength);
            Quaternion b = direction;
            moved |= draw_in(pair, k, numbers, b);
            const Quaternion a = divide(b, direction);
            turn(u, p, q, a);
            if (pair + 1 < PAIRS) turn(product, p, q, a);
        }
    neaten(u);
    choose(moved, u, link);
}

// Of SU(2) and U(1) the sum is a multiple of a link.
template <int N> INLINE vec inverse_length(const Link<N>& s, vec& length) {
    const vec squared = square(s);
    const auto still = squared < traits<vec>::tiny;
    length = select<vec>(still, vec{}, sqrt_(squared));
    return 1 / select<vec>(still, splat<vec>(1), length);
}

INLINE void relax(Link<2>& u, const Link<2>& sum, bool) {
    vec length;
    const vec inverse = inverse_length(sum, length);
    Link<2> s = sum, product, found;
    s.scale(inverse);
    link_product<false, false, false>(s, u, product);
    link_product<false, false, false>(product, s, found);
    const auto still = length == 0;
    static_cast<Quaternion&>(u) = pick(still, u, {found.w, -found.x, -found.y, -found.z});
    neaten(u);
}

INLINE void heat(Link<2>& u, const Link<2>& sum, real strength, const Numbers& numbers) {
    vec length;
    const vec inverse = inverse_length(sum, length);
    Link<2> s = sum, b = u, found;
    s.scale(inverse);
    auto moved = draw(length * (2 * strength), ATTEMPTS, numbers, b);
    moved &= u.w == u.w;  // what is not a number stays
    s.w = select<vec>(length == 0, splat<vec>(1), s.w);
    link_product<false, true, false>(b, s, found);
    neaten(found);
    static_cast<Quaternion&>(u) = pick(moved, found, u);
}

INLINE void relax(Link<1>& u, const Link<1>& sum, bool) {
    vec length;
    const vec inverse = inverse_length(sum, length);
    Link<1> s = sum, product, found;
    s.scale(inverse);
    link_product<false, false, false>(s, u, product);
    link_product<true, true, false>(product, s, found);
    const auto still = length == 0;
    u.re = select(still, u.re, found.re), u.im = select(still, u.im, found.im);
    neaten(u);
}

// Angles from exp(k cos), by rejection from a wrapped Cauchy law: D. J. Best and N. I. Fisher, Appl. Statist. 28 (1979) 152.
INLINE void heat(Link<1>& u, const Link<1>& sum, real strength, const Numbers& numbers) {
    vec length;
    const vec inverse = inverse_length(sum, length), k = length * strength;
    const vec tau = 1 + sqrt_(1 + 4 * k * k), q = real(0.5) * (tau + sqrt_(2 * tau)), rho = k / q, square = 1 - rho * rho;
    Link<1> s = sum, b = u, found;
    s.scale(inverse);
    s.re = select<vec>(length == 0, splat<vec>(1), s.re);
    mask_of<vec> waiting = k == k;
    for (int i = 0; i < ATTEMPTS && any(waiting); i++) {
        vec r[4], sine, cosine;
        numbers(i, r);
        sincos_((r[0] - real(0.5)) * real(PI), sine, cosine);
        // Best and Fisher's k (r - f)
        const vec c = q * square * square / (2 + 2 * rho * (rho + 2 * (cosine * cosine - sine * sine)));
        const auto accepted = (r[1] < c * exp2_((1 - c) * real(LOG2_E))) & waiting;
        const vec across = (1 - rho) * sine, along = (1 + rho) * cosine;  // of half the angle
        const vec per = 1 / (along * along + across * across);
        b.re = select(accepted, (along * along - across * across) * per, b.re);
        b.im = select(accepted, 2 * along * across * per, b.im);
        waiting &= ~accepted;
    }
    link_product<false, true, false>(b, s, found);
    neaten(found);
    const auto moved = ~waiting & (u.re == u.re);  // what is not a number stays
    u.re = select(moved, found.re, u.re), u.im = select(moved, found.im, u.im);
}

enum Move { HEAT_BATH, OVER_RELAXATION };

template <class Weights>
void sweep_row(const Sublattices& lattice, const Field<Link<N>>& field, const Weights& couplings, int64_t move, bool restored,
               const Streams& streams, const int32_t* sites, int64_t count) {
    const real strength = couplings.strength();
    for (int64_t i = 0; i < count; i++)
        for (int part = 0; part < PARTS; part++) {
            const int32_t site = sites[i];
            const bool last = part + 1 == PARTS;
            if (field.large) prefetch_site(lattice, field, sites[std::min(i + last, count - 1)], last ? 0 : part + 1, true);
            if (move == OVER_RELAXATION)
                each_link(lattice, field, couplings, site, part,
                          [=](Link<N>& u, const Link<N>& sum, int) { relax(u, sum, restored); });
            else
                each_link(lattice, field, couplings, site, part, [&](Link<N>& u, const Link<N>& sum, int mu) {
                    heat(u, sum, strength, Numbers(streams, lattice, site, mu, part));
                });
        }
}

// The plaquettes of a row, with their weights.
struct Total {
    double plaquettes[NODES] = {};
};

template <class Weights>
int64_t sweep_chains(const Sublattices& lattice, const Order& order, const Weights& couplings, const real* links, int64_t chains,
                     const int64_t* moves, int64_t n_moves, const int64_t* keys, const int64_t* calls, int64_t before,
                     real* out, double* action, int64_t threads) {
    const int64_t bundles = lattice.bundles(chains), rows = order.slices * order.rows;
    const Sharing sharing(lattice, bundles, threads);
    huge_pages(out, chains * lattice.dim * lattice.lattice_sites * Link<N>::WIDTH * sizeof(real));
    int64_t failed = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : failed) if (sharing.bundles)
    for (int64_t number = 0; number < bundles; number++) {
        const Bundle bundle(lattice, number, chains);
        const Field<Link<N>> field(lattice);
        if (!field.data) {
            failed += bundle.count;
            continue;
        }
        std::vector<Total> totals[2];
        const auto add_up = [&](std::vector<Total>& totals, auto leave) {  // plaquettes, row after row
#pragma omp for schedule(static)
            for (int64_t row = 0; row < rows; row++)
                for (int64_t i = 0; i < order.row_size; i++) {
                    const int32_t* site = order.row(0, row) + i;
                    if (field.large && i + 1 < order.row_size)
                        for (int part = 0; part < PARTS; part++) prefetch_site(lattice, field, site[1], part, false);
                    add_plaquettes(lattice, field, couplings, *site, totals[row].plaquettes);
                    leave(*site);
                }
        };
        for (int64_t k = 0; k <= before; k++) totals[k].resize(rows);
        Barrier barrier;
#pragma omp parallel num_threads(threads) if (sharing.rows)
        {
            barrier.join();
#pragma omp for schedule(static)
            for (int64_t site = 0; site < lattice.sites; site++) pack(bundle, links, field, site);
            if (before) add_up(totals[0], [](int32_t) {});
            Streams streams(bundle, keys, calls);
            for (int64_t k = 0; k < n_moves; k++) {
                // of over-relaxations in a row the last one restores links
                const bool restored = k + 1 == n_moves || moves[k + 1] != moves[k];
                for (int64_t slice = 0; slice < order.slices; slice++)
                    for (int c = 0; c < order.classes(); c++) {
#pragma omp for schedule(static) nowait
                        for (int64_t row = order.begin(c); row < order.end(c); row++)
                            sweep_row(lattice, field, couplings, moves[k], restored, streams, order.row(slice, row),
                                      order.row_size);
                        barrier.wait();
                    }
                if (moves[k] == HEAT_BATH) streams.next();
            }
            add_up(totals[before], [&](int32_t site) { unpack(bundle, field, out, site); });
        }
        for (int64_t i = 0; i < bundle.count; i++)
            for (int64_t k = 0; k <= before; k++)
                action[(bundle.first + i) * (before + 1) + k] = -sum(totals[k], &Total::plaquettes, bundle, i);
    }
    return failed;
}

}  // namespace

// weights (dim, dim) of plaquettes, for `form` 1 with those of rectangles after them, or of single plaquettes, (planes,
// *extents), for 2 real and for 3 complex; moves; keys (chains, 2) and
// calls (chains,), of which every heat bath uses one after the other; action (chains, 1), or (chains, 2) with that `before`
// the moves. Returns for how many chains there is no memory.
extern "C" int64_t link_sweeps(const real* links, int64_t chains, int64_t dim, const int64_t* extents, const int64_t* nodes,
                               const double* weights, int64_t form, const int64_t* moves, int64_t n_moves,
                               const int64_t* keys, const int64_t* calls, int64_t before, real* out, double* action,
                               int64_t threads) {
    const Sublattices lattice(dim, extents, nodes);
    const auto sweep = [&](const auto& couplings, int reach) {
        return sweep_chains(lattice, Order(lattice, reach), couplings, links, chains, moves, n_moves, keys, calls, before, out,
                            action, threads);
    };
    const auto by_site = [&](const auto& couplings) { return couplings.field.data ? sweep(couplings, 1) : chains; };
    return form == 0   ? sweep(Couplings(dim, weights), 1)
           : form == 1 ? sweep(LoopCouplings(dim, weights), 2)
           : form == 2 ? by_site(SiteCouplings<false>(lattice, weights))
                       : by_site(SiteCouplings<true>(lattice, weights));
}
