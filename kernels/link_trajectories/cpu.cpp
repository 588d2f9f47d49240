// link_trajectories for CPUs: molecular dynamics of the links of a lattice, 16 sublattices at once.
#define SAME_BITS
#include "momenta.hpp"
#include "rectangles.hpp"

constexpr int N = SIZE;

namespace {

// Sums over the links of a row, in double precision.
struct Totals {
    double kinetic[NODES] = {}, potential[NODES] = {};
    INLINE void add(double (&to)[NODES], int part, vec values) {
        for (int l = 0; l < L; l++) to[part * L + l] += double(values[l]);
    }
};

// What is left of the energies of all rows, in an order that is always the same.
double sum(const std::vector<Totals>& rows, double (Totals::*kind)[NODES]) {
    double total = 0;
    for (const Totals& row : rows)
        for (double value : row.*kind) total += value;
    return total;
}

template <class Weights> struct Trajectory {
    const Sublattices& lattice;
    const Weights couplings;
    const Field<Link<N>> first, second;  // links before and after a step take turns
    const Field<Momentum<N>> momenta;

    Trajectory(const Sublattices& lattice_, const Weights& couplings_)
        : lattice(lattice_), couplings(couplings_), first(lattice), second(lattice), momenta(lattice) {}

    void draw_row(const Stream& stream, const int32_t* sites, int64_t count, Totals& totals) const {
        for (int64_t i = 0; i < count; i++)
            for (int mu = 0; mu < lattice.dim; mu++)
                for (int part = 0; part < PARTS; part++) {
                    Momentum<N>& p = *momenta.at(sites[i], mu, part);
                    draw(Numbers(stream, lattice, sites[i], mu, part), p);
                    totals.add(totals.kinetic, part, energy(p));
                }
    }

    // Kicks the momenta of a row of sites, with the energies if `totals` are wanted, and moves the links unless `moved` is null.
    void kick_row(const Field<Link<N>>& links, const Field<Link<N>>* moved, real size, real step, bool restored,
                  const int32_t* sites, int64_t count, Totals* totals) const {
        constexpr bool plaquettes = std::is_same_v<Weights, Couplings>;
        const real strength = couplings.strength(), factor = size * real(0.5) * strength;
        for (int64_t i = 0; i < count; i++)
            for (int part = 0; part < PARTS; part++) {
                const int32_t site = sites[i];
                const bool last = part + 1 == PARTS;
                if (links.large) prefetch_site(lattice, links, sites[std::min(i + last, count - 1)], last ? 0 : part + 1, true);
                each_link(lattice, links, couplings, site, part, [&](const Link<N>& u, const Link<N>& sum, int mu) {
                    Momentum<N>& p = *momenta.at(site, mu, part);
                    Link<N> loops;
                    link_product<false, false, false>(u, sum, loops);
                    kick(loops, factor, p);
                    if (totals) {
                        // every plaquette has four links
                        if (plaquettes) totals->add(totals->potential, part, real(-0.25) * strength * retrace(loops));
                        totals->add(totals->kinetic, part, energy(p));
                    }
                    if (!moved) return;
                    Link<N>& to = *moved->at(site, mu, part);
                    move(p, step, u, to);
                    if (restored) neaten(to);
                });
                if constexpr (!plaquettes)
                    if (totals && last) add_plaquettes(lattice, links, couplings, site, totals->potential, -1);
            }
    }
};

template <class Weights>
int64_t move_chains(const Sublattices& lattice, const Weights& couplings, const real* links, int64_t chains,
                    const double* kicks, int64_t n, const double* step, const int64_t* keys, const int64_t* calls, real* out,
                    double* energies, int64_t threads) {
    const Order order(lattice);
    const int64_t size = lattice.dim * lattice.lattice_sites * Link<N>::WIDTH, rows = order.slices * order.rows;
    const Sharing sharing(lattice, chains, threads);
    huge_pages(out, chains * size * sizeof(real));
    int64_t failed = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : failed) if (sharing.chains)
    for (int64_t chain = 0; chain < chains; chain++) {
        const Trajectory<Weights> trajectory(lattice, couplings);
        if (!trajectory.first.data || !trajectory.second.data || !trajectory.momenta.data) {
            failed++;
            continue;
        }
        std::vector<Totals> begin(rows), end(rows);
        const Stream stream{uint64_t(keys[2 * chain]), uint64_t(keys[2 * chain + 1]), uint32_t(calls[chain])};
#pragma omp parallel num_threads(threads) if (sharing.rows)
        {
            const Field<Link<N>>*now = &trajectory.first, *next = &trajectory.second;
#pragma omp for schedule(static)
            for (int64_t row = 0; row < rows; row++) {
                const int32_t* sites = order.row(0, row);
                for (int64_t i = 0; i < order.row_size; i++) pack(lattice, links + chain * size, *now, sites[i]);
                trajectory.draw_row(stream, sites, order.row_size, begin[row]);
            }
            for (int64_t k = 0; k <= n; k++) {
#pragma omp for schedule(static)
                for (int64_t row = 0; row < rows; row++) {
                    Totals kicked, *totals = k == 0 || k == n ? &kicked : nullptr;
                    trajectory.kick_row(*now, k < n ? next : nullptr, kicks[k], *step, k + 1 == n, order.row(0, row),
                                        order.row_size, totals);
                    if (k == 0) std::copy(kicked.potential, kicked.potential + NODES, begin[row].potential);
                    if (k == n) end[row] = kicked;
                }
                if (k < n) std::swap(now, next);
            }
#pragma omp for schedule(static)
            for (int64_t site = 0; site < lattice.sites; site++) unpack(lattice, *now, out + chain * size, site);
        }
        energies[3 * chain] = sum(begin, &Totals::kinetic) + sum(begin, &Totals::potential);
        energies[3 * chain + 2] = sum(end, &Totals::potential);
        energies[3 * chain + 1] = sum(end, &Totals::kinetic) + energies[3 * chain + 2];
    }
    return failed;
}

}  // namespace

// weights as in link_sweeps; kicks (n + 1), and the size of the n steps between them; energies (chains, 3): of the beginning
// and of the end, and the action of the end. Returns for how many chains there is no memory.
extern "C" int64_t link_trajectories(const real* links, int64_t chains, int64_t dim, const int64_t* extents,
                                     const int64_t* nodes, const double* weights, int64_t rectangles,
                                     const double* kicks, int64_t n, const double* step, const int64_t* keys,
                                     const int64_t* calls, real* out, double* energies, int64_t threads) {
    const Sublattices lattice(dim, extents, nodes);
    const auto move = [&](const auto& couplings) {
        return move_chains(lattice, couplings, links, chains, kicks, n, step, keys, calls, out, energies, threads);
    };
    return rectangles ? move(LoopCouplings(dim, weights)) : move(Couplings(dim, weights));
}
