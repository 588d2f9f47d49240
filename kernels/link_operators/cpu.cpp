// link_operators for CPUs: sums of operators of plaquettes and of pairs of them, and their force, in 16 lanes.
#define SAME_BITS
#include "plaquettes.hpp"

constexpr int N = SIZE;
constexpr double ONES[DIMS * DIMS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

namespace {

// What the derivative of the sum of weighted operators inserts into the loops: R that of a link, t = tr R, P a plaquette.
struct Insertions {
    vec along, against, trace, conjugate;                      // R, R^dagger, t and t* before the loops of a link
    vec number, plaquette_trace, plaquette_conjugate, square;  // 1, tr P, (tr P)* and P before a plaquette

    // Sums over pairs are squares of sums over links, without what every plaquette has with itself at its four links. By the
    // theorem of Cayley and Hamilton Re tr P^2 is Re (tr P)^2, of SU(2) less 2, and of SU(3) less 2 Re tr P.
    void set(int lane, const double* w) {
        const double same = w[6] - 2 * w[2];
        along[lane] = w[2], against[lane] = w[1], trace[lane] = w[3], conjugate[lane] = w[4];
        number[lane] = w[0] - (N == 3 ? 2 * same : 0);
        plaquette_trace[lane] = 2 * (w[5] - 2 * w[3] + (N <= 3 ? same : 0));
        plaquette_conjugate[lane] = 2 * (w[7] - 2 * w[4]);
        square[lane] = N <= 3 ? 0 : 2 * same;
    }
};

// Sums over the plaquettes P and over the links of a row.
struct Totals {
    double plaquette[NODES] = {}, squared_trace[NODES] = {}, traced_square[NODES] = {}, length[NODES] = {};  // of tr P, P^2
    double against[NODES] = {}, along[NODES] = {}, trace[NODES] = {}, conjugate[NODES] = {};  // of R R^dagger, R R, t t, t t*
};

// Re tr (a b)^2
INLINE vec squared(const Link<N>& a, const Link<N>& b) {
    Link<N> product;
    link_product<false, false, false>(a, b, product);
    return retrace(product, product);
}

INLINE void add_to(double (&total)[NODES], int part, vec values) {
    for (int l = 0; l < L; l++) total[part * L + l] += double(values[l]);
}

// Plaquettes alone: the links of a bundle of chains, and the force. There are n weights for each chain.
struct Plaquettes {
    const Bundle& bundle;
    const Sublattices& lattice;
    const Order& order;
    const Field<Link<N>> links;
    const Field<Momentum<N>> forces;
    const PerNode weight;
    const Couplings couplings;
    std::vector<Totals> totals;  // of rows

    Plaquettes(const Bundle& bundle_, const Order& order_, const double* weights, int64_t n)
        : bundle(bundle_), lattice(bundle.lattice), order(order_), links(lattice), forces(lattice),
          weight(bundle, [=](int64_t chain) { return weights[chain * n]; }), couplings(lattice.dim, ONES),
          totals(order.slices * order.rows) {}
    bool room() const { return links.data && forces.data; }
    template <class Element> void clear(const Field<Element>& field, int32_t site) const {
        for (int mu = 0; mu < lattice.dim; mu++)
            for (int part = 0; part < PARTS; part++) *field.at(site, mu, part) = Element{};
    }
    // Calls f for the sites of a row.
    template <class F> INLINE void each(int64_t row, F f) const {
        for (int64_t i = 0; i < order.row_size; i++) f(order.row(0, row)[i]);
    }
    // Calls begin(site) before anything is asked of a site, and leave(site) once its force is complete.
    template <class Begin, class Leave> void run(Barrier& barrier, Begin begin, Leave leave) {
        const int64_t last = order.slices - 1;
        const auto start = [&](int64_t row) {
            each(row, [&](int32_t site) { begin(site), clear(forces, site); });
        };
        const auto kick = [&](int64_t row) {
            each(row, [&](int32_t site) {
                kick_plaquettes(lattice, links, forces, couplings, weight, site, &totals[row].plaquette);
            });
        };
        const auto end = [&](int64_t row) { each(row, leave); };
        each_row(order, last, start);
        each_row(order, 0, start);
        barrier.wait();
        each_row(order, barrier, last, kick, [](int64_t) {});  // which enters the first slice
        for (int64_t slice = 0; slice < last; slice++)
            each_row(
                order, barrier, slice,
                [&](int64_t row) {
                    if (slice + 1 < last) start(row + order.rows);
                    kick(row);
                },
                end);
        each_row(order, last, end);
    }
    // The values of the i-th chain of the bundle.
    void evaluate(int64_t i, double* values) const { values[0] = -total(&Totals::plaquette, i); }  // as of an action
    double total(double (Totals::*kind)[NODES], int64_t i) const { return sum(totals, kind, bundle, i); }
};

// The links of a bundle, what is summed over their loops, and the force.
//
// Of a plaquette P = a b c^dagger d^dagger two loops are made, M2 = A D at the end of a and M3 = D A at that of d, with
// A = b c^dagger and D = d^dagger a. All loops of a link follow it: those of which it is a or d are at its end, the others
// at its beginning.
struct Operators : Plaquettes {
    const Field<Link<N>> ends, begins;  // sums of loops, and then what is inserted into them
    Insertions insertions[PARTS];

    Operators(const Bundle& bundle_, const Order& order_, const double* weights, int64_t n)
        : Plaquettes(bundle_, order_, weights, n), ends(lattice), begins(lattice) {
        for (int k = 0; k < NODES; k++) insertions[k / L].set(k % L, weights + bundle.chain(k) * n);
    }
    bool room() const { return Plaquettes::room() && ends.data && begins.data; }

    // Calls f(mu, nu, A, D) for the planes of a site.
    template <class F> INLINE void each_plane(int32_t site, int part, F f) const {
        const Place here{site, 0};
        Link<N> across, corner;
        for (int mu = 0; mu < lattice.dim; mu++)
            for (int nu = mu + 1; nu < lattice.dim; nu++) {
                seen_product<false, true, false>(links.see(lattice, lattice.up(here, mu), nu, part),
                                                 links.see(lattice, lattice.up(here, nu), mu, part), across);
                link_product<true, false, false>(*links.at(site, nu, part), *links.at(site, mu, part), corner);
                f(mu, nu, across, corner);
            }
    }

    // Adds the loops of the plaquettes of a site to those of their links.
    void add_loops(int32_t site, Totals& totals) const {
        Ahead<Link<N>> next(lattice, begins, site);
        for (int part = 0; part < PARTS; part++) {
            Link<N> own[DIMS] = {};
            vec plaquette = {}, squared_trace = {}, traced_square = {}, length = {};
            each_plane(site, part, [&](int mu, int nu, const Link<N>& across, const Link<N>& corner) {
                vec re, im;
                add_product<true>(across, corner, own[nu], next.at(mu, nu, part), re, im);
                add_product<false>(across, corner, own[mu], next.at(nu, mu, part), re, im);
                plaquette += re, squared_trace += re * re - im * im, length += re * re + im * im;
                if constexpr (N > 3) traced_square += squared(across, corner);
            });
            if constexpr (N <= 3) traced_square = squared_trace - real(N == 3 ? 2 : 0) * plaquette;
            for (int mu = 0; mu < lattice.dim; mu++) *ends.at(site, mu, part) = own[mu];
            add_to(totals.plaquette, part, plaquette);
            add_to(totals.squared_trace, part, squared_trace);
            add_to(totals.traced_square, part, traced_square);
            add_to(totals.length, part, length);
        }
        next.finish();
    }

    // Turns the sums of the links of a site into what is inserted, at their ends and at their beginnings. A link's own
    // insertion is to stand behind its loops; `add_forces` puts it before those at the end, which is set right here.
    void insert(int32_t site, Totals& totals) const {
        for (int part = 0; part < PARTS; part++) {
            const Insertions& own = insertions[part];
            vec against = {}, along = {}, square = {}, length = {};
            for (int mu = 0; mu < lattice.dim; mu++) {
                const Link<N>& u = *links.at(site, mu, part);
                Link<N>&end = *ends.at(site, mu, part), &begin = *begins.at(site, mu, part), path, loops, inserted;
                Momentum<N>& force = *forces.at(site, mu, part);
                link_product<false, false, false>(u, end, path);
                link_product<false, true, false>(path, u, loops);
                add(splat<vec>(1), loops, begin);
                against += overlap(begin, begin), along += retrace(begin, begin);
                vec re, im;
                trace(begin, re, im);
                square += re * re - im * im, length += re * re + im * im;
                turned(own.along, own.against, begin, inserted);
                force = Momentum<N>{};
                kick_product<false>(loops, inserted, splat<vec>(0.5), force);
                kick_product<false>(inserted, loops, splat<vec>(-0.5), force);
                const vec even = own.trace + own.conjugate, odd = own.trace - own.conjugate;
                add_number(even * re, odd * im, inserted);
                link_product<false, false, false>(inserted, u, path);
                link_product<true, false, false>(u, path, end);
                begin = inserted;
            }
            add_to(totals.against, part, against);
            add_to(totals.along, part, along);
            add_to(totals.trace, part, square);
            add_to(totals.conjugate, part, length);
        }
    }

    // Adds the forces of the plaquettes of a site to those of their links.
    void add_forces(int32_t site) const {
        const Place here{site, 0};
        const vec half = splat<vec>(0.5);
        Ahead<Momentum<N>> next(lattice, forces, site);
        for (int part = 0; part < PARTS; part++) {
            const Insertions& inserted = insertions[part];
            const vec even = inserted.plaquette_trace + inserted.plaquette_conjugate;
            const vec odd = inserted.plaquette_trace - inserted.plaquette_conjugate;
            const bool traces = any((even != 0) | (odd != 0));
            Momentum<N> own[DIMS];
            Link<N> second, third, inside, outside, room;
            for (int mu = 0; mu < lattice.dim; mu++) own[mu] = *forces.at(site, mu, part);
            each_plane(site, part, [&](int mu, int nu, const Link<N>& across, const Link<N>& corner) {
                const Link<N>&a = *links.at(site, mu, part), &d = *links.at(site, nu, part);
                // before M2, and the adjoint before M3
                add(*ends.at(site, mu, part), begins.fetch(lattice, lattice.up(here, mu), nu, part, room), second);
                add(*ends.at(site, nu, part), begins.fetch(lattice, lattice.up(here, nu), mu, part, room), third);
                vec re = {}, im = {};
                if (traces) trace(across, corner, re, im);
                add_number(inserted.number + even * re, odd * im, second);
                if constexpr (N > 3) {
                    link_product<false, false, false>(across, corner, inside);
                    add(inserted.square, inside, second);
                }
                link_product<true, false, false>(third, corner, inside);
                link_product<false, false, true>(corner, second, inside);
                kick_product<false>(across, inside, half, next.at(nu, mu, part));
                kick_product<false>(inside, across, -half, next.at(mu, nu, part));
                link_product<false, false, false>(second, across, inside);
                link_product<false, true, true>(across, third, inside);
                link_product<false, true, false>(inside, d, outside);
                kick_product<false>(a, outside, half, own[mu], &own[nu]);
            });
            for (int mu = 0; mu < lattice.dim; mu++) *forces.at(site, mu, part) = own[mu];
        }
        next.finish();
    }

    // As above. A slice follows another through all stages while it is in the caches near the core.
    template <class Begin, class Leave> void run(Barrier& barrier, Begin begin, Leave leave) {
        const int64_t last = order.slices - 1;
        const auto start = [&](int64_t row) {
            each(row, [&](int32_t site) { begin(site), clear(begins, site); });
        };
        const auto loops = [&](int64_t row) { each(row, [&](int32_t site) { add_loops(site, totals[row]); }); };
        const auto turn = [&](int64_t row) { each(row, [&](int32_t site) { insert(site, totals[row]); }); };
        const auto kick = [&](int64_t row) { each(row, [&](int32_t site) { add_forces(site); }); };
        const auto end = [&](int64_t row) { each(row, leave); };
        const auto nothing = [](int64_t) {};
        each_row(order, last, start);
        each_row(order, 0, start);
        barrier.wait();
        each_row(order, barrier, last, loops, nothing);
        for (int64_t slice = 0; slice < last; slice++) {
            each_row(
                order, barrier, slice,
                [&](int64_t row) {
                    if (slice + 1 < last) start(row + order.rows);
                    loops(row);
                },
                turn);
            if (slice == 1) each_row(order, barrier, 0, kick, nothing);
            if (slice > 1) each_row(order, barrier, slice - 1, kick, end);
        }
        each_row(order, last, turn);
        barrier.wait();
        if (last > 1) each_row(order, barrier, last - 1, kick, end);
        else each_row(order, barrier, 0, kick, nothing);
        each_row(order, barrier, last, kick, end);
        each_row(order, 0, end);
    }
    void evaluate(int64_t i, double* values) const {
        const double dim = lattice.dim, same = 2 * dim * (dim - 1) * N * lattice.lattice_sites;
        values[0] = total(&Totals::plaquette, i);
        values[5] = total(&Totals::squared_trace, i);
        values[6] = total(&Totals::traced_square, i) - (N == 2 ? dim * (dim - 1) * lattice.lattice_sites : 0);
        values[7] = total(&Totals::length, i);
        values[1] = 0.5 * (total(&Totals::against, i) - same);
        values[2] = 0.5 * total(&Totals::along, i) - 2 * values[6];
        values[3] = 0.5 * total(&Totals::trace, i) - 2 * values[5];
        values[4] = 0.5 * total(&Totals::conjugate, i) - 2 * values[7];
    }
};

// Force and values of a bundle of chains.
template <class Kind> struct Sum {
    Kind kind;
    const real* links;
    real* force;

    bool room() const { return kind.room(); }
    void run(Barrier& barrier) {
        kind.run(
            barrier, [&](int32_t site) { pack(kind.bundle, links, kind.links, site); },
            [&](int32_t site) { unpack(kind.bundle, kind.forces, force, site); });
    }
    void evaluate(int64_t i, double* values) const { kind.evaluate(i, values); }
};

// A step of a bundle of chains by the midpoint rule, with the force of plaquettes on the way to the midpoint.
template <class Kind> struct Step {
    Plaquettes beginning;
    Kind midpoint;
    const real* links;
    real* out;

    bool room() const { return beginning.room() && midpoint.room(); }
    // Calls f for all links of a site, by direction and part.
    template <class F> INLINE void each_link(F f) const {
        for (int mu = 0; mu < beginning.lattice.dim; mu++)
            for (int part = 0; part < PARTS; part++) f(mu, part);
    }
    // The links at the beginning and at the midpoint.
    void begin(Barrier& barrier) {
        const auto start = [&](int32_t site) { pack(beginning.bundle, links, beginning.links, site); };
        if (!beginning.weight.zero())
            return beginning.run(barrier, start, [&](int32_t site) {
                each_link([&](int mu, int part) {
                    move(*beginning.forces.at(site, mu, part), 1, *beginning.links.at(site, mu, part),
                         *midpoint.links.at(site, mu, part));
                });
            });
        for (int64_t slice = 0; slice < beginning.order.slices; slice++)
            each_row(beginning.order, slice, [&](int64_t row) {
                beginning.each(row, [&](int32_t site) { start(site), pack(beginning.bundle, links, midpoint.links, site); });
            });
    }
    void run(Barrier& barrier) {
        begin(barrier);
        barrier.wait();
        midpoint.run(
            barrier, [](int32_t) {},
            [&](int32_t site) {
                each_link([&](int mu, int part) {
                    Link<N> moved;
                    move(*midpoint.forces.at(site, mu, part), 1, *beginning.links.at(site, mu, part), moved);
                    neaten(moved);
                    *beginning.links.at(site, mu, part) = moved;
                });
                unpack(beginning.bundle, beginning.links, out, site);
            });
    }
    void evaluate(int64_t i, double* values) const { midpoint.evaluate(i, values); }
};

// Runs what make(bundle) gives for all chains. Returns for how many there is no memory.
template <class Make>
int64_t each_bundle(const Sublattices& lattice, int64_t chains, int64_t n, double* values, int64_t threads, Make make) {
    const int64_t bundles = lattice.bundles(chains);
    const Sharing sharing(lattice, bundles, threads);
    int64_t failed = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : failed) if (sharing.bundles)
    for (int64_t number = 0; number < bundles; number++) {
        const Bundle bundle(lattice, number, chains);
        auto own = make(bundle);
        if (!own.room()) {
            failed += bundle.count;
            continue;
        }
        Barrier barrier;
#pragma omp parallel num_threads(threads) if (sharing.rows)
        {
            barrier.join();
#pragma omp barrier
            own.run(barrier);
        }
        for (int64_t i = 0; i < bundle.count; i++) own.evaluate(i, values + (bundle.first + i) * n);
    }
    return failed;
}

int64_t bytes(const Sublattices& lattice, int64_t chains) {
    return chains * lattice.dim * lattice.lattice_sites * Link<N>::WIDTH * sizeof(real);
}

template <class Kind>
int64_t sum_chains(const Sublattices& lattice, const real* links, int64_t chains, const double* weights, int64_t n, real* force,
                   double* values, int64_t threads) {
    const Order order(lattice);
    huge_pages(force, bytes(lattice, chains));
    return each_bundle(lattice, chains, n, values, threads, [&](const Bundle& bundle) {
        return Sum<Kind>{Kind(bundle, order, weights, n), links, force};
    });
}

template <class Kind>
int64_t step_chains(const Sublattices& lattice, const real* links, int64_t chains, const double* ahead, const double* weights,
                    int64_t n, real* out, double* values, int64_t threads) {
    const Order order(lattice);
    huge_pages(out, bytes(lattice, chains));
    return each_bundle(lattice, chains, n, values, threads, [&](const Bundle& bundle) {
        return Step<Kind>{Plaquettes(bundle, order, ahead, 1), Kind(bundle, order, weights, n), links, out};
    });
}

}  // namespace

// weights (chains, n) of the first n operators, of one or of all; force as links; values (chains, n). Returns for how many
// chains there is no memory.
extern "C" int64_t link_operators(const real* links, int64_t chains, int64_t dim, const int64_t* extents, const int64_t* nodes,
                                  const double* weights, int64_t n, real* force, double* values, int64_t threads) {
    const Sublattices lattice(dim, extents, nodes);
    return n == 1 ? sum_chains<Plaquettes>(lattice, links, chains, weights, n, force, values, threads)
                  : sum_chains<Operators>(lattice, links, chains, weights, n, force, values, threads);
}

// The same with the weights `ahead` (chains, 1) of the way to the midpoint; out as links; values at the midpoint.
extern "C" int64_t link_steps(const real* links, int64_t chains, int64_t dim, const int64_t* extents, const int64_t* nodes,
                              const double* ahead, const double* weights, int64_t n, real* out, double* values,
                              int64_t threads) {
    const Sublattices lattice(dim, extents, nodes);
    return n == 1 ? step_chains<Plaquettes>(lattice, links, chains, ahead, weights, n, out, values, threads)
                  : step_chains<Operators>(lattice, links, chains, ahead, weights, n, out, values, threads);
}
