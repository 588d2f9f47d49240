// link_flow for CPUs: the Wilson flow of the links of lattices, in 16 lanes.
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

INLINE void take_back(mask_of<vec> mask, const Link<N>& before, Link<N>& u) {
    const vec* from = reinterpret_cast<const vec*>(&before);
    vec* all = reinterpret_cast<vec*>(&u);
    for (size_t k = 0; k < sizeof(u) / sizeof(vec); k++) all[k] = select(mask, from[k], all[k]);
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

    // Calls f for all links of a row of sites, by part and place in the fields.
    template <class F> INLINE void each(const int32_t* sites, int64_t count, F f) const {
        for (int64_t i = 0; i < count; i++)
            for (int mu = 0; mu < lattice.dim; mu++)
                for (int part = 0; part < PARTS; part++)
                    f(part, *links.at(sites[i], mu, part), *begin.at(sites[i], mu, part), *exponents.at(sites[i], mu, part),
                      *estimates.at(sites[i], mu, part));
    }

    void start_row(const int32_t* sites, int64_t count) const {
        each(sites, count, [](int, Link<N>& u, Link<N>& before, Momentum<N>& exponent, Momentum<N>& estimate) {
            before = u, exponent = estimate = Momentum<N>{};
        });
    }
    // Takes back a step of the nodes that `keep` is not set for.
    void return_row(const PerNode& keep, const int32_t* sites, int64_t count) const {
        each(sites, count, [&](int part, Link<N>& u, Link<N>& before, Momentum<N>&, Momentum<N>&) {
            take_back(keep.part[part] == 0, before, u);
        });
    }

    // The forces of the plaquettes of a row, which also enter the next row and the next slice.
    void kick_row(const PerNode& steps, const int32_t* sites, int64_t count) const {
        for (int64_t i = 0; i < count; i++)
            kick_plaquettes(lattice, links, exponents, couplings, steps, sites[i], nullptr);
    }

    // Moves the links of a row by their exponents, and prepares these for the next stage; the largest errors of the last one,
    // squared, go to `errors`.
    void move_row(int stage, const int32_t* sites, int64_t count, PerNode& errors) const {
        const bool last = stage + 1 == STAGES;
        // the force of a stage is what its exponent has gained
        const real own = WEIGHTS[stage], next = last ? 0 : -FORGET[stage + 1] * WEIGHTS[stage + 1], added = own + next;
        errors = PerNode();
        each(sites, count, [&](int part, Link<N>& u, Link<N>& before, Momentum<N>& exponent, Momentum<N>& estimate) {
            move(exponent, MOVE[stage], u, u);
            if (added != 0) add(added, exponent, estimate);
            if (!last) return scale(FORGET[stage + 1], exponent);
            neaten(u);
            Link<N> other;
            move(estimate, 1, before, other);
            errors.part[part] = max_(distance(u, other), errors.part[part]);
        });
    }
};

// One chain on its way through the times.
struct Way {
    Pace pace;
    int64_t reached = 0;  // times
    double left;          // until the next one

    bool arrives() const { return !(left > 0) || pace.lost(); }
    double share() const { return arrives() ? 0 : pace.share(left); }
    // Whether a step with this error counts.
    bool counts(double error) {
        const double step = share();
        if (step == 0 || !pace.counts(step, error)) return false;
        left = step < left ? left - step : 0;
        return true;
    }
    void arrive(const double* times, int64_t n_times) {
        reached++;
        if (reached < n_times) left = times[reached] - times[reached - 1];
    }
};

// The error of a step of the i-th chain of a bundle.
double error(const std::vector<PerNode>& rows, const Bundle& bundle, int64_t i) {
    real largest = 0;
    for (const PerNode& row : rows) bundle.each(i, [&](int k) { largest = std::max(largest, row[k]); });
    return std::sqrt(double(largest)) / (N * N);
}

}  // namespace

// times (n_times), increasing; steps (chains): the first one to try, and on return the next one; densities (chains, n_times,
// 2, or 3 in four dimensions). Returns for how many chains there is no memory.
extern "C" int64_t link_flow(const real* links, int64_t chains, int64_t dim, const int64_t* extents, const int64_t* nodes,
                             const double* times, int64_t n_times, const double* tolerance, const double* largest,
                             const double* steps, real* out, double* densities, double* next_steps, int64_t threads) {
    const Sublattices lattice(dim, extents, nodes);
    const Order order(lattice);
    const int64_t bundles = lattice.bundles(chains), rows = order.slices * order.rows, kinds = dim == 4 ? 3 : 2;
    const double w = N == 1 ? 1 : 2, weights[DIMS * DIMS] = {w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w};
    const Couplings couplings(dim, weights);
    const Sharing sharing(lattice, bundles, threads);
    huge_pages(out, chains * dim * lattice.lattice_sites * Link<N>::WIDTH * sizeof(real));
    int64_t failed = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : failed) if (sharing.bundles)
    for (int64_t number = 0; number < bundles; number++) {
        const Bundle bundle(lattice, number, chains);
        const Flow flow(lattice, couplings);
        if (!flow.room()) {
            failed += bundle.count;
            continue;
        }
        std::vector<PerNode> errors(rows);
        std::vector<Strengths> found(rows);
#pragma omp parallel num_threads(threads) if (sharing.rows)
        {
            std::vector<Way> ways;  // each thread keeps its own, all alike
            for (int64_t i = 0; i < bundle.count; i++)
                ways.push_back({{*tolerance, *largest, steps[bundle.first + i]}, 0, times[0]});
            const auto under_way = [&](const Way& way) { return way.reached < n_times; };
            const auto arrived = [&](const Way& way) { return under_way(way) && way.arrives(); };
#pragma omp for schedule(static)
            for (int64_t row = 0; row < rows; row++) {
                const int32_t* sites = order.row(0, row);
                for (int64_t i = 0; i < order.row_size; i++) pack(bundle, links, flow.links, sites[i]);
            }
            while (std::any_of(ways.begin(), ways.end(), under_way)) {
                if (std::any_of(ways.begin(), ways.end(), arrived)) {
#pragma omp for schedule(static)
                    for (int64_t row = 0; row < rows; row++) {
                        found[row] = Strengths{};
                        for (int64_t i = 0; i < order.row_size; i++) found[row].add(lattice, flow.links, order.row(0, row)[i]);
                    }
#pragma omp master
                    for (int64_t i = 0; i < bundle.count; i++) {
                        if (!arrived(ways[i])) continue;
                        double* to = densities + ((bundle.first + i) * n_times + ways[i].reached) * kinds;
                        to[0] = sum(found, &Strengths::plaquette, bundle, i) * (N == 1 ? 1 : 2) / lattice.lattice_sites;
                        to[1] = sum(found, &Strengths::clover, bundle, i) / lattice.lattice_sites;
                        if (dim == 4) to[2] = sum(found, &Strengths::dual, bundle, i) / ((N == 1 ? 2 : 4) * PI * PI);
                        next_steps[bundle.first + i] = ways[i].pace.step;
                    }
#pragma omp barrier
                    for (Way& way : ways)
                        if (arrived(way)) way.arrive(times, n_times);
                    continue;
                }
                const PerNode step(bundle, [&](int64_t chain) { return ways[chain - bundle.first].share(); });
#pragma omp for schedule(static)
                for (int64_t row = 0; row < rows; row++) flow.start_row(order.row(0, row), order.row_size);
                for (int stage = 0; stage < STAGES; stage++) {
                    // links of a slice whose plaquettes, and those of the slice before, are done are not asked for again
                    const auto leave = [&](int64_t slice) {
#pragma omp for schedule(static) nowait
                        for (int64_t row = slice * order.rows; row < (slice + 1) * order.rows; row++)
                            flow.move_row(stage, order.row(0, row), order.row_size, errors[row]);
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
                std::vector<char> counts(bundle.count);
                for (int64_t i = 0; i < bundle.count; i++) counts[i] = ways[i].counts(error(errors, bundle, i));
                if (std::all_of(counts.begin(), counts.end(), [](char own) { return own; })) continue;
                const PerNode keep(bundle, [&](int64_t chain) { return counts[chain - bundle.first]; });
#pragma omp for schedule(static)
                for (int64_t row = 0; row < rows; row++) flow.return_row(keep, order.row(0, row), order.row_size);
            }
#pragma omp for schedule(static)
            for (int64_t site = 0; site < lattice.sites; site++) unpack(bundle, flow.links, out, site);
        }
    }
    return failed;
}
