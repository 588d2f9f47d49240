// link_flow for CPUs: the Wilson flow of the links of a lattice, 16 sublattices at once.
#define SAME_BITS
#include "plaquettes.hpp"
#include "strengths.hpp"

constexpr int N = SIZE;

namespace {

// The size of steps: the largest whose error is within the tolerance.
struct Pace {
    static constexpr double SMALLEST = 1e-6;
    double tolerance, largest, step;

    // An equal share of what is left: rounding must not add a step.
    double share(double left) const { return left / std::max(1.0, std::ceil(left / step - 1e-9)); }
    // Whether a step with this error counts, and the next one. An error that is not a number is no reason to try again.
    bool counts(double share, double error) {
        const double next = 0.95 * share * std::cbrt(tolerance / error);
        step = next < largest ? next : largest;
        return !(error > tolerance);
    }
    bool lost() const { return step < SMALLEST; }
};

// The scheme of fourth order, Z <- FORGET Z - h F, U <- exp(MOVE Z) U, with nodes 0, .1497, .3704, .6223 and .9583; and the
// weights of -h F in the exponent of second order that a step is compared with.
constexpr int STAGES = 5;
constexpr double FORGET[STAGES] = {0, -567301805773.0 / 1357537059087.0, -2404267990393.0 / 2016746695238.0,
                                   -3550918686646.0 / 2091501179385.0, -1275806237668.0 / 842570457699.0};
constexpr double MOVE[STAGES] = {1432997174477.0 / 9575080441755.0, 5161836677717.0 / 13612068292357.0,
                                 1720146321549.0 / 2090206949498.0, 3134564353537.0 / 4481467310338.0,
                                 2277821191437.0 / 14882151754819.0};
constexpr double WEIGHTS[STAGES] = {0, 1 - 0.741310609038955, 0, 0.741310609038955, 0};

INLINE void scale(real factor, Momentum<N>& p) {
    vec* all = reinterpret_cast<vec*>(&p);
    for (size_t k = 0; k < sizeof(p) / sizeof(vec); k++) all[k] *= factor;
}

INLINE void add(real factor, const Momentum<N>& p, Momentum<N>& to) {
    const vec* from = reinterpret_cast<const vec*>(&p);
    vec* all = reinterpret_cast<vec*>(&to);
    for (size_t k = 0; k < sizeof(p) / sizeof(vec); k++) all[k] += factor * from[k];
}

// |a - b|^2
INLINE vec distance(const Link<N>& a, const Link<N>& b) {
    Link<N> difference;
    const vec *first = reinterpret_cast<const vec*>(&a), *second = reinterpret_cast<const vec*>(&b);
    vec* to = reinterpret_cast<vec*>(&difference);
    for (size_t k = 0; k < sizeof(a) / sizeof(vec); k++) to[k] = first[k] - second[k];
    return overlap(difference, difference);
}

struct Flow {
    const Sublattices& lattice;
    const Couplings couplings;
    const Field<Link<N>> links, begin;  // now, and at the beginning of a step
    const Field<Momentum<N>> exponents, estimates;

    Flow(const Sublattices& lattice_, const Couplings& couplings_)
        : lattice(lattice_), couplings(couplings_), links(lattice), begin(lattice), exponents(lattice), estimates(lattice) {}
    bool room() const { return links.data && begin.data && exponents.data && estimates.data; }

    // Calls f for all links of a row of sites, by place in the fields.
    template <class F> INLINE void each(const int32_t* sites, int64_t count, F f) const {
        for (int64_t i = 0; i < count; i++)
            for (int mu = 0; mu < lattice.dim; mu++)
                for (int part = 0; part < PARTS; part++)
                    f(*links.at(sites[i], mu, part), *begin.at(sites[i], mu, part), *exponents.at(sites[i], mu, part),
                      *estimates.at(sites[i], mu, part));
    }

    void start_row(const int32_t* sites, int64_t count) const {
        each(sites, count, [](Link<N>& u, Link<N>& before, Momentum<N>& exponent, Momentum<N>& estimate) {
            before = u, exponent = estimate = Momentum<N>{};
        });
    }
    void return_row(const int32_t* sites, int64_t count) const {
        each(sites, count, [](Link<N>& u, Link<N>& before, Momentum<N>&, Momentum<N>&) { u = before; });
    }

    // The forces of the plaquettes of a row, which also enter the next row and the next slice.
    void kick_row(real step, const int32_t* sites, int64_t count) const {
        for (int64_t i = 0; i < count; i++)
            kick_plaquettes(lattice, links, exponents, couplings, step, sites[i], nullptr);
    }

    // Moves the links of a row by their exponents, and prepares these for the next stage; returns the largest error of the
    // last one, squared.
    real move_row(int stage, const int32_t* sites, int64_t count) const {
        const bool last = stage + 1 == STAGES;
        // the force of a stage is what its exponent has gained
        const real own = WEIGHTS[stage], next = last ? 0 : -FORGET[stage + 1] * WEIGHTS[stage + 1], added = own + next;
        vec error = {};
        each(sites, count, [&](Link<N>& u, Link<N>& before, Momentum<N>& exponent, Momentum<N>& estimate) {
            move(exponent, MOVE[stage], u, u);
            if (added != 0) add(added, exponent, estimate);
            if (!last) return scale(FORGET[stage + 1], exponent);
            neaten(u);
            Link<N> other;
            move(estimate, 1, before, other);
            error = max_(distance(u, other), error);
        });
        real largest = 0;
        for (int l = 0; l < L; l++) largest = std::max(largest, error[l]);
        return largest;
    }
};

}  // namespace

// times (n_times), increasing; steps (chains): the first one to try, and on return the next one; densities (chains, n_times,
// 2, or 3 in four dimensions). Returns for how many chains there is no memory.
extern "C" int64_t link_flow(const real* links, int64_t chains, int64_t dim, const int64_t* extents, const int64_t* nodes,
                             const double* times, int64_t n_times, const double* tolerance, const double* largest,
                             const double* steps, real* out, double* densities, double* next_steps, int64_t threads) {
    const Sublattices lattice(dim, extents, nodes);
    const Order order(lattice);
    const int64_t size = dim * lattice.lattice_sites * Link<N>::WIDTH, rows = order.slices * order.rows;
    const double w = N == 1 ? 1 : 2, weights[DIMS * DIMS] = {w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w};
    const Couplings couplings(dim, weights);
    const Sharing sharing(lattice, chains, threads);
    huge_pages(out, chains * size * sizeof(real));
    int64_t failed = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : failed) if (sharing.chains)
    for (int64_t chain = 0; chain < chains; chain++) {
        const Flow flow(lattice, couplings);
        if (!flow.room()) {
            failed++;
            continue;
        }
        std::vector<real> errors(rows);
        std::vector<Strengths> found(rows);
        double last_step = steps[chain];
#pragma omp parallel num_threads(threads) if (sharing.rows)
        {
            Pace pace{*tolerance, *largest, steps[chain]};  // each thread keeps its own, all alike
#pragma omp for schedule(static)
            for (int64_t row = 0; row < rows; row++) {
                const int32_t* sites = order.row(0, row);
                for (int64_t i = 0; i < order.row_size; i++) pack(lattice, links + chain * size, flow.links, sites[i]);
            }
            for (int64_t k = 0; k < n_times; k++) {
                double left = times[k] - (k ? times[k - 1] : 0);
                while (left > 0 && !pace.lost()) {
                    const double step = pace.share(left);
#pragma omp for schedule(static)
                    for (int64_t row = 0; row < rows; row++) flow.start_row(order.row(0, row), order.row_size);
                    for (int stage = 0; stage < STAGES; stage++) {
                        // links of a slice whose plaquettes, and those of the slice before, are done are not asked for again
                        const auto leave = [&](int64_t slice) {
#pragma omp for schedule(static) nowait
                            for (int64_t row = slice * order.rows; row < (slice + 1) * order.rows; row++) {
                                const real error = flow.move_row(stage, order.row(0, row), order.row_size);
                                if (stage + 1 == STAGES) errors[row] = error;
                            }
                        };
                        // the plaquettes of the last slice enter the first one: they come before all others
                        for (int64_t slice = -1; slice < order.slices - 1; slice++) {
                            const int64_t first_row = (slice < 0 ? order.slices - 1 : slice) * order.rows;
                            for (int c = 0; c < order.classes(); c++) {
#pragma omp for schedule(static)
                                for (int64_t row = first_row + order.begin(c); row < first_row + order.end(c); row++)
                                    flow.kick_row(step, order.row(0, row), order.row_size);
                            }
                            if (slice >= 0) leave(slice);
                        }
                        leave(order.slices - 1);
#pragma omp barrier
                    }
                    const double error = std::sqrt(double(*std::max_element(errors.begin(), errors.end()))) / (N * N);
                    if (pace.counts(step, error)) {
                        left = step < left ? left - step : 0;
                        continue;
                    }
#pragma omp for schedule(static)
                    for (int64_t row = 0; row < rows; row++) flow.return_row(order.row(0, row), order.row_size);
                }
#pragma omp for schedule(static)
                for (int64_t row = 0; row < rows; row++) {
                    found[row] = Strengths{};
                    for (int64_t i = 0; i < order.row_size; i++) found[row].add(lattice, flow.links, order.row(0, row)[i]);
                }
#pragma omp master
                {
                    double sums[3] = {};
                    for (const Strengths& row : found)
                        for (int l = 0; l < NODES; l++)
                            sums[0] += row.plaquette[l], sums[1] += row.clover[l], sums[2] += row.dual[l];
                    double* to = densities + (chain * n_times + k) * (dim == 4 ? 3 : 2);
                    to[0] = sums[0] * (N == 1 ? 1 : 2) / lattice.lattice_sites;
                    to[1] = sums[1] / lattice.lattice_sites;
                    if (dim == 4) to[2] = sums[2] / ((N == 1 ? 2 : 4) * PI * PI);
                    last_step = pace.step;
                }
#pragma omp barrier
            }
#pragma omp for schedule(static)
            for (int64_t site = 0; site < lattice.sites; site++) unpack(lattice, flow.links, out + chain * size, site);
        }
        next_steps[chain] = last_step;
    }
    return failed;
}
