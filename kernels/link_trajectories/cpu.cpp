// link_trajectories for CPUs: molecular dynamics of the links of lattices, in 16 lanes.
#define SAME_BITS
#include "plaquettes.hpp"
#include "rectangles.hpp"

constexpr int N = SIZE;

namespace {

// Sums over the links of a row, in double precision.
struct Totals {
    double kinetic[NODES] = {}, potential[NODES] = {};
    INLINE void add_kinetic(int part, vec values) {
        for (int l = 0; l < L; l++) kinetic[part * L + l] += double(values[l]);
    }
};

template <class Weights> struct Trajectory {
    static constexpr bool RECTANGLES = std::is_same_v<Weights, LoopCouplings>;
    const Sublattices& lattice;
    const Weights& couplings;
    const Field<Link<N>> links;
    const Field<Momentum<N>> momenta;

    Trajectory(const Sublattices& lattice_, const Weights& couplings_)
        : lattice(lattice_), couplings(couplings_), links(lattice), momenta(lattice) {}

    // Calls f(mu, part, momentum) for all links of a site.
    template <class F> INLINE void each_momentum(int32_t site, F f) const {
        for (int mu = 0; mu < lattice.dim; mu++)
            for (int part = 0; part < PARTS; part++) f(mu, part, *momenta.at(site, mu, part));
    }

    void draw_row(const Streams& streams, const int32_t* sites, int64_t count, Totals& totals) const {
        for (int64_t i = 0; i < count; i++)
            each_momentum(sites[i], [&](int mu, int part, Momentum<N>& p) {
                draw(Numbers(streams, lattice, sites[i], mu, part), p);
                totals.add_kinetic(part, energy(p));
            });
    }

    // The kicks of the plaquettes of a row, which also enter the next row and the next slice; with their action if wanted.
    void kick_row(real size, const int32_t* sites, int64_t count, Totals* totals) const {
        for (int64_t i = 0; i < count; i++)
            kick_plaquettes(lattice, links, momenta, couplings, PerNode(size), sites[i], totals ? &totals->potential : nullptr);
    }

    // The kicks of a row by the sums of its staples, which enter no other momenta; the same of the action.
    void kick_row_by_staples(real size, const int32_t* sites, int64_t count, Totals* totals) const {
        for (int64_t i = 0; i < count; i++) {
            for (int part = 0; part < PARTS; part++) {
                const bool last = part + 1 == PARTS;
                if (links.large) prefetch_site(lattice, links, sites[std::min(i + last, count - 1)], last ? 0 : part + 1, true);
                each_link(lattice, links, couplings, sites[i], part, [&](const Link<N>& u, const Link<N>& sum, int mu) {
                    kick_product<false>(u, sum, splat<vec>(size * real(0.5) * couplings.strength()), *momenta.at(sites[i], mu, part));
                });
            }
            if (totals) add_plaquettes(lattice, links, couplings, sites[i], totals->potential, -1);
        }
    }

    void move_row(real step, bool restored, const int32_t* sites, int64_t count) const {
        for (int64_t i = 0; i < count; i++)
            each_momentum(sites[i], [&](int mu, int part, const Momentum<N>& p) {
                Link<N>& u = *links.at(sites[i], mu, part);
                move(p, step, u, u);
                if (restored) neaten(u);
            });
    }

    void weigh_row(const int32_t* sites, int64_t count, Totals& totals) const {
        for (int64_t i = 0; i < count; i++)
            each_momentum(sites[i], [&](int, int part, const Momentum<N>& p) { totals.add_kinetic(part, energy(p)); });
    }
};

template <class Weights>
int64_t move_chains(const Sublattices& lattice, const Weights& couplings, const real* links, int64_t chains,
                    const double* kicks, int64_t n, const double* step, const int64_t* keys, const int64_t* calls, real* out,
                    double* energies, int64_t threads) {
    const Order order(lattice);
    const int64_t bundles = lattice.bundles(chains), rows = order.slices * order.rows;
    const Sharing sharing(lattice, bundles, threads);
    huge_pages(out, chains * lattice.dim * lattice.lattice_sites * Link<N>::WIDTH * sizeof(real));
    int64_t failed = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : failed) if (sharing.bundles)
    for (int64_t number = 0; number < bundles; number++) {
        const Bundle bundle(lattice, number, chains);
        const Trajectory<Weights> trajectory(lattice, couplings);
        if (!trajectory.links.data || !trajectory.momenta.data) {
            failed += bundle.count;
            continue;
        }
        std::vector<Totals> begin(rows), end(rows);
        Barrier barrier;
        const Streams streams(bundle, keys, calls);
#pragma omp parallel num_threads(threads) if (sharing.rows)
        {
            barrier.join();
#pragma omp for schedule(static)
            for (int64_t row = 0; row < rows; row++) {
                const int32_t* sites = order.row(0, row);
                for (int64_t i = 0; i < order.row_size; i++) pack(bundle, links, trajectory.links, sites[i]);
                trajectory.draw_row(streams, sites, order.row_size, begin[row]);
            }
            // what is done with a slice whose momenta have all their kicks; no slice that is still to be kicked asks for it
            const auto leave = [&](int64_t k, int64_t slice) {
#pragma omp for schedule(static) nowait
                for (int64_t row = 0; row < order.rows; row++) {
                    const int32_t* sites = order.row(slice, row);
                    if (k < n) trajectory.move_row(*step, k + 1 == n, sites, order.row_size);
                    else trajectory.weigh_row(sites, order.row_size, end[slice * order.rows + row]);
                }
            };
            for (int64_t k = 0; k <= n; k++) {
                const auto totals = [&](int64_t row) { return k == 0 ? &begin[row] : k == n ? &end[row] : nullptr; };
                if constexpr (Trajectory<Weights>::RECTANGLES) {
#pragma omp for schedule(static) nowait
                    for (int64_t row = 0; row < rows; row++)
                        trajectory.kick_row_by_staples(kicks[k], order.row(0, row), order.row_size, totals(row));
                    barrier.wait();
                    for (int64_t slice = 0; slice < order.slices - 1; slice++) leave(k, slice);
                } else {
                    // the plaquettes of the last slice enter the first one: they come before all others
                    for (int64_t slice = -1; slice < order.slices - 1; slice++) {
                        const int64_t first_row = (slice < 0 ? order.slices - 1 : slice) * order.rows;
                        for (int c = 0; c < order.classes(); c++) {
#pragma omp for schedule(static) nowait
                            for (int64_t row = first_row + order.begin(c); row < first_row + order.end(c); row++)
                                trajectory.kick_row(kicks[k], order.row(0, row), order.row_size, totals(row));
                            barrier.wait();
                        }
                        if (slice >= 0) leave(k, slice);
                    }
                }
                leave(k, order.slices - 1);
                barrier.wait();
            }
#pragma omp for schedule(static)
            for (int64_t site = 0; site < lattice.sites; site++) unpack(bundle, trajectory.links, out, site);
        }
        for (int64_t i = 0; i < bundle.count; i++) {
            double* own = energies + 3 * (bundle.first + i);
            own[0] = sum(begin, &Totals::kinetic, bundle, i) + sum(begin, &Totals::potential, bundle, i);
            own[2] = sum(end, &Totals::potential, bundle, i);
            own[1] = sum(end, &Totals::kinetic, bundle, i) + own[2];
        }
    }
    return failed;
}

}  // namespace

// weights as in link_sweeps; kicks (n + 1), and the size of the n steps between them; energies (chains, 3): of the beginning
// and of the end, and the action of the end. Returns for how many chains there is no memory.
extern "C" int64_t link_trajectories(const real* links, int64_t chains, int64_t dim, const int64_t* extents,
                                     const int64_t* nodes, const double* weights, int64_t form,
                                     const double* kicks, int64_t n, const double* step, const int64_t* keys,
                                     const int64_t* calls, real* out, double* energies, int64_t threads) {
    const Sublattices lattice(dim, extents, nodes);
    const auto move = [&](const auto& couplings) {
        return move_chains(lattice, couplings, links, chains, kicks, n, step, keys, calls, out, energies, threads);
    };
    const auto by_site = [&](const auto& couplings) { return couplings.field.data ? move(couplings) : chains; };
    return form == 0   ? move(Couplings(dim, weights))
           : form == 1 ? move(LoopCouplings(dim, weights))
           : form == 2 ? by_site(SiteCouplings<false>(lattice, weights))
                       : by_site(SiteCouplings<true>(lattice, weights));
}
