// link_operators for CPUs: sums of operators of plaquettes and of pairs of them, and their force, 16 sublattices at once.
#define SAME_BITS
#include "plaquettes.hpp"

constexpr int N = SIZE, OPERATORS = 8;

namespace {

// What the derivative of the sum of weighted operators inserts into the loops: R that of a link, t = tr R, P a plaquette.
struct Insertions {
    real along, against, trace, conjugate;                      // R, R^dagger, t and t* before the loops of a link
    real number, plaquette_trace, plaquette_conjugate, square;  // 1, tr P, (tr P)* and P before a plaquette

    // Sums over pairs are squares of sums over links, without what every plaquette has with itself at its four links. For
    // N <= 3 tr P^2 follows from tr P by the theorem of Cayley and Hamilton.
    explicit Insertions(const double* w) {
        const double same = w[6] - 2 * w[2];
        along = w[2], against = w[1], trace = w[3], conjugate = w[4];
        number = w[0] - (N == 3 ? 2 * same : 0);
        plaquette_trace = 2 * (w[5] - 2 * w[3] + (N <= 3 ? same : 0));
        plaquette_conjugate = 2 * (w[7] - 2 * w[4]);
        square = N <= 3 ? 0 : 2 * same;
    }
};

// Sums over the plaquettes P and over the links of a row.
struct Totals {
    double plaquette[NODES] = {}, squared_trace[NODES] = {}, traced_square[NODES] = {}, length[NODES] = {};  // of tr P, P^2
    double against[NODES] = {}, along[NODES] = {}, trace[NODES] = {}, conjugate[NODES] = {};  // of R R^dagger, R R, t t, t t*
};

INLINE void add_to(double (&total)[NODES], int part, vec values) {
    for (int l = 0; l < L; l++) total[part * L + l] += double(values[l]);
}

double sum(const std::vector<Totals>& rows, double (Totals::*kind)[NODES]) {
    double total = 0;
    for (const Totals& row : rows)
        for (double value : row.*kind) total += value;
    return total;
}

// The values of the operators, in their order.
void evaluate(const Sublattices& lattice, const std::vector<Totals>& rows, double* values) {
    const double dim = lattice.dim, constant = 2 * dim * (dim - 1) * N * lattice.lattice_sites;
    values[0] = sum(rows, &Totals::plaquette);
    values[5] = sum(rows, &Totals::squared_trace);
    values[6] = sum(rows, &Totals::traced_square);
    values[7] = sum(rows, &Totals::length);
    values[1] = 0.5 * (sum(rows, &Totals::against) - constant);
    values[2] = 0.5 * sum(rows, &Totals::along) - 2 * values[6];
    values[3] = 0.5 * sum(rows, &Totals::trace) - 2 * values[5];
    values[4] = 0.5 * sum(rows, &Totals::conjugate) - 2 * values[7];
}

// The links of a chain, what is summed over their loops, and the force.
//
// Of a plaquette P = a b c^dagger d^dagger two loops are made, M2 = A D at the end of a and M3 = D A at that of d, with
// A = b c^dagger and D = d^dagger a. All loops of a link follow it: those of which it is a or d are at its end, the others
// at its beginning.
struct Operators {
    const Sublattices& lattice;
    const Field<Link<N>> links, ends, begins;  // sums of loops, and then what is inserted into them
    const Field<Momentum<N>> forces;

    explicit Operators(const Sublattices& lattice_) : lattice(lattice_), links(lattice), ends(lattice), begins(lattice), forces(lattice) {}
    bool room() const { return links.data && ends.data && begins.data && forces.data; }

    // Calls f(mu, nu, A, D) for the planes of a site.
    template <class F> INLINE void each_plane(int32_t site, int part, F f) const {
        const Place here{site, 0};
        Link<N> across, corner, room[2];
        for (int mu = 0; mu < lattice.dim; mu++)
            for (int nu = mu + 1; nu < lattice.dim; nu++) {
                link_product<false, true, false>(links.fetch(lattice, lattice.up(here, mu), nu, part, room[0]),
                                                 links.fetch(lattice, lattice.up(here, nu), mu, part, room[1]), across);
                link_product<true, false, false>(*links.at(site, nu, part), *links.at(site, mu, part), corner);
                f(mu, nu, across, corner);
            }
    }

    // Adds the loops of the plaquettes of a site to those of their links.
    void add_loops(int32_t site, Totals& totals) const {
        Ahead<Link<N>> next(lattice, begins, site);
        for (int part = 0; part < PARTS; part++) {
            Link<N> own[DIMS] = {}, loop;
            vec plaquette = {}, squared_trace = {}, traced_square = {}, length = {};
            each_plane(site, part, [&](int mu, int nu, const Link<N>& across, const Link<N>& corner) {
                link_product<false, false, false>(across, corner, loop);
                add(1, loop, own[mu]);
                add(1, loop, next.at(nu, mu, part));
                vec re, im;
                trace(loop, re, im);
                plaquette += re, squared_trace += re * re - im * im, length += re * re + im * im;
                traced_square += retrace(loop, loop);
                link_product<true, true, false>(across, corner, loop);
                add(1, loop, own[nu]);
                add(1, loop, next.at(mu, nu, part));
            });
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
    void insert(int32_t site, const Insertions& insertions, Totals& totals) const {
        for (int part = 0; part < PARTS; part++) {
            vec against = {}, along = {}, square = {}, length = {};
            for (int mu = 0; mu < lattice.dim; mu++) {
                const Link<N>& u = *links.at(site, mu, part);
                Link<N>&end = *ends.at(site, mu, part), &begin = *begins.at(site, mu, part), path, loops, inserted;
                Momentum<N>& force = *forces.at(site, mu, part);
                link_product<false, false, false>(u, end, path);
                link_product<false, true, false>(path, u, loops);
                add(1, loops, begin);
                against += overlap(begin, begin), along += retrace(begin, begin);
                vec re, im;
                trace(begin, re, im);
                square += re * re - im * im, length += re * re + im * im;
                turned(insertions.along, insertions.against, begin, inserted);
                force = Momentum<N>{};
                kick_product<false>(loops, inserted, real(0.5), force);
                kick_product<false>(inserted, loops, real(-0.5), force);
                const real even = insertions.trace + insertions.conjugate, odd = insertions.trace - insertions.conjugate;
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
    void add_forces(int32_t site, const Insertions& insertions) const {
        const Place here{site, 0};
        const real half = 0.5;
        Ahead<Momentum<N>> next(lattice, forces, site);
        for (int part = 0; part < PARTS; part++) {
            Momentum<N> own[DIMS];
            Link<N> second, third, inside, outside, room;
            for (int mu = 0; mu < lattice.dim; mu++) own[mu] = *forces.at(site, mu, part);
            each_plane(site, part, [&](int mu, int nu, const Link<N>& across, const Link<N>& corner) {
                const Link<N>&a = *links.at(site, mu, part), &d = *links.at(site, nu, part);
                // before M2, and the adjoint before M3
                second = begins.fetch(lattice, lattice.up(here, mu), nu, part, room);
                add(1, *ends.at(site, mu, part), second);
                third = begins.fetch(lattice, lattice.up(here, nu), mu, part, room);
                add(1, *ends.at(site, nu, part), third);
                vec re, im;
                trace(across, corner, re, im);
                const real even = insertions.plaquette_trace + insertions.plaquette_conjugate;
                const real odd = insertions.plaquette_trace - insertions.plaquette_conjugate;
                add_number(insertions.number + even * re, odd * im, second);
                if constexpr (N > 3) {
                    link_product<false, false, false>(across, corner, inside);
                    add(insertions.square, inside, second);
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
};

}  // namespace

// weights (chains, n) of the first n operators, of one or of all; force as links; values (chains, n). Returns for how many
// chains there is no memory.
extern "C" int64_t link_operators(const real* links, int64_t chains, int64_t dim, const int64_t* extents, const int64_t* nodes,
                                  const double* weights, int64_t n, real* force, double* values, int64_t threads) {
    const Sublattices lattice(dim, extents, nodes);
    const Order order(lattice);
    const int64_t size = dim * lattice.lattice_sites * Link<N>::WIDTH, rows = order.slices * order.rows;
    const Sharing sharing(lattice, chains, threads);
    huge_pages(force, chains * size * sizeof(real));
    int64_t failed = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : failed) if (sharing.chains)
    for (int64_t chain = 0; chain < chains; chain++) {
        const Operators operators(lattice);
        if (!operators.room()) {
            failed++;
            continue;
        }
        std::vector<Totals> totals(rows);
        Barrier barrier;
        const Insertions insertions(weights + chain * n);
        const auto each = [&](int64_t row, auto f) {
            for (int64_t i = 0; i < order.row_size; i++) f(order.row(0, row)[i]);
        };
#pragma omp parallel num_threads(threads) if (sharing.rows)
        {
            barrier.join();
#pragma omp for schedule(static)
            for (int64_t row = 0; row < rows; row++)
                each(row, [&](int32_t site) {
                    pack(lattice, links + chain * size, operators.links, site);
                    for (int mu = 0; mu < dim; mu++)
                        for (int part = 0; part < PARTS; part++) *operators.begins.at(site, mu, part) = Link<N>{};
                });
            slice_by_slice(
                order, barrier,
                [&](int64_t row) { each(row, [&](int32_t site) { operators.add_loops(site, totals[row]); }); },
                [&](int64_t row) { each(row, [&](int32_t site) { operators.insert(site, insertions, totals[row]); }); });
            slice_by_slice(
                order, barrier,
                [&](int64_t row) { each(row, [&](int32_t site) { operators.add_forces(site, insertions); }); },
                [&](int64_t row) {
                    each(row, [&](int32_t site) { unpack(lattice, operators.forces, force + chain * size, site); });
                });
        }
        evaluate(lattice, totals, values + chain * n);
    }
    return failed;
}
