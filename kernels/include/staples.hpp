// Sums of staples and plaquettes, and the order in which sites are visited.
#pragma once
#include "links.hpp"
#include "sublattices.hpp"

// The numbers of a link as it is seen: its lanes are permuted when they are read, with no copy.
template <int N, bool beyond> struct SeenEntries {
    const vec* numbers;
    mask_of<vec> lanes_of;
    INLINE SeenEntries(const Seen& link) : numbers(link.numbers) {
        if (beyond) lanes_of = *link.lanes;
    }
    INLINE vec number(int k) const {
        if constexpr (beyond) return __builtin_shuffle(numbers[k], lanes_of);
        else return numbers[k];
    }
    INLINE vec re(int i, int j) const { return number(i * N + j); }
    INLINE vec im(int i, int j) const { return number(N * N + i * N + j); }
};

template <bool adjoint_a, bool adjoint_b, bool add, bool beyond_a, bool beyond_b, int N>
__attribute__((noinline)) void product_of(const Seen& a, const Seen& b, Link<N>& c) {
    entries_product<adjoint_a, adjoint_b, add>(SeenEntries<N, beyond_a>(a), SeenEntries<N, beyond_b>(b), c);
}

// c = a b, or c + a b, with either or both adjoint, of links as they are seen. Of larger matrices, which are read more than
// once, and of quaternions and phases, there are copies.
template <bool adjoint_a, bool adjoint_b, bool add, int N> INLINE void seen_product(const Seen& a, const Seen& b, Link<N>& c) {
    if constexpr (N == 3) {
        if (a.lanes && b.lanes) product_of<adjoint_a, adjoint_b, add, true, true>(a, b, c);
        else if (a.lanes) product_of<adjoint_a, adjoint_b, add, true, false>(a, b, c);
        else if (b.lanes) product_of<adjoint_a, adjoint_b, add, false, true>(a, b, c);
        else product_of<adjoint_a, adjoint_b, add, false, false>(a, b, c);
    } else {
        Link<N> room[2];
        link_product<adjoint_a, adjoint_b, add>(own(a, room[0]), own(b, room[1]), c);
    }
}

// The weights of the planes.
struct Couplings {
    double weight[DIMS][DIMS];
    bool equal = true;  // all planes: then the sums of staples are without it

    Couplings(int dim, const double* weights) {
        for (int mu = 0; mu < dim; mu++)
            for (int nu = 0; nu < dim; nu++) {
                weight[mu][nu] = weights[mu * dim + nu];
                equal &= mu == nu || weights[mu * dim + nu] == weights[1];
            }
    }
    INLINE real strength() const { return equal ? weight[0][1] : 1; }
    // A product that is part of the plaquette of a place, as it enters staples.
    template <bool adjoint_a, bool adjoint_b, int N>
    INLINE void product(const Seen& a, const Seen& b, int mu, int nu, const Sublattices&, Place, int, Link<N>& out) const {
        seen_product<adjoint_a, adjoint_b, false>(a, b, out);
        if (!equal) out.scale(real(weight[mu][nu]));
    }
    // The same where plaquettes are added up; returns what is left to multiply their traces by.
    template <bool adjoint_a, bool adjoint_b, int N>
    INLINE double weighed(const Seen& a, const Seen& b, int mu, int nu, const Sublattices&, Place, int, Link<N>& out) const {
        seen_product<adjoint_a, adjoint_b, false>(a, b, out);
        return weight[mu][nu];
    }
};

// Weights of single plaquettes P_{mu nu}(x), mu < nu, kept as links are: real, or complex, of P_{nu mu} conjugate.
template <bool complex> struct SiteCouplings {
    struct Weight {
        vec parts[1 + complex];
    };
    int plane[DIMS][DIMS];
    bool turned[DIMS][DIMS] = {};  // whether weights of the plane have phases
    Field<Weight> field;

    // (planes, *extents), of complex numbers two for each
    SiteCouplings(const Sublattices& lattice, const double* weights) : field(lattice, lattice.dim * (lattice.dim - 1) / 2) {
        for (int mu = 0, count = 0; mu < lattice.dim; mu++)
            for (int nu = mu + 1; nu < lattice.dim; nu++, count++) {
                plane[mu][nu] = plane[nu][mu] = count;
                const double* own = weights + (1 + complex) * count * lattice.lattice_sites;
                for (int64_t site = 0; field.data && site < lattice.sites; site++)
                    for (int k = 0; k < NODES; k++)
                        for (int j = 0; j <= complex; j++) {
                            const double number = own[(1 + complex) * lattice.link(site, 0, k) + j];
                            field.at(site, count, k / L)->parts[j][k % L] = number;
                            turned[mu][nu] |= j == 1 && number != 0;
                        }
                turned[nu][mu] = turned[mu][nu];
            }
    }
    INLINE real strength() const { return 1; }
    template <bool adjoint_a, bool adjoint_b, int N>
    INLINE void product(const Seen& a, const Seen& b, int mu, int nu, const Sublattices& lattice, Place place, int part,
                        Link<N>& out) const {
        Weight weight;
        Link<N> room[2];
        const Weight& w = field.fetch(lattice, place, plane[mu][nu], part, weight);
        const Link<N>&first = own(a, room[0]), &second = own(b, room[1]);
        if (complex && turned[mu][nu])
            link_product_times<adjoint_a, adjoint_b>(first, second, w.parts[0], mu < nu ? w.parts[complex] : -w.parts[complex], out);
        else link_product_times<adjoint_a, adjoint_b>(first, second, w.parts[0], out);
    }
    template <bool adjoint_a, bool adjoint_b, int N>
    INLINE double weighed(const Seen& a, const Seen& b, int mu, int nu, const Sublattices& lattice, Place place, int part,
                          Link<N>& out) const {
        product<adjoint_a, adjoint_b>(a, b, mu, nu, lattice, place, part, out);
        return 1;
    }
};

// Calls f(link, sum of its weighted staples, mu) for the links of a site, one after the other; it may change the link. What
// no link of the site enters is made once: U_nu(x + mu) U_mu(x + nu)^dagger.
template <int N, class Weights, class F>
INLINE void each_link(const Sublattices& lattice, const Field<Link<N>>& field, const Weights& couplings, int32_t site, int part,
                      F f) {
    const Place here{site, 0};
    Link<N> ahead[DIMS][DIMS], sum, path;
    for (int mu = 0; mu < lattice.dim; mu++)
        for (int nu = mu + 1; nu < lattice.dim; nu++) {
            couplings.template product<false, true>(field.see(lattice, lattice.up(here, mu), nu, part),
                                                    field.see(lattice, lattice.up(here, nu), mu, part), mu, nu, lattice, here,
                                                    part, ahead[mu][nu]);
        }
    for (int mu = 0; mu < lattice.dim; mu++) {
        bool first = true;
        for (int nu = 0; nu < lattice.dim; nu++) {
            if (nu == mu) continue;
            const Link<N>& own = *field.at(site, nu, part);
            if (first && mu < nu) link_product<false, true, false>(ahead[mu][nu], own, sum);
            else if (first) link_product<true, true, false>(ahead[nu][mu], own, sum);
            else if (mu < nu) link_product<false, true, true>(ahead[mu][nu], own, sum);
            else link_product<true, true, true>(ahead[nu][mu], own, sum);
            first = false;
            const Place below = lattice.down(here, nu);
            couplings.template product<false, false>(field.see(lattice, below, mu, part),
                                                     field.see(lattice, lattice.up(below, mu), nu, part), mu, nu, lattice,
                                                     below, part, path);
            const Seen made{reinterpret_cast<const vec*>(&path), nullptr};
            seen_product<true, false, true>(made, field.see(lattice, below, nu, part), sum);
        }
        f(*field.at(site, mu, part), sum, mu);
    }
}

// The sites in the order of a sweep: slice after slice of the longest direction, and in a slice rows across the longest of
// the others. Blocks of rows, of two where loops reach one site further and of three to five where they reach two, give a
// class of rows each: first the first ones, then the second ones ... Rows of one class have no loop in common.
struct Order {
    int64_t slices, rows, row_size;
    std::vector<int32_t> sites;
    std::vector<int64_t> ends;  // of classes, among the rows of a slice in their order
    std::vector<std::vector<int64_t>> complete;  // the rows that nothing else of their slice enters after a row

    Order(const Sublattices& lattice, int reach = 1) {
        int64_t extent[DIMS] = {};
        std::copy(lattice.extent, lattice.extent + lattice.dim, extent);
        const auto longest = [&] { return int(std::max_element(extent, extent + lattice.dim) - extent); };
        const int a = longest();
        extent[a] = 0;
        const int b = longest();
        slices = lattice.extent[a], rows = lattice.extent[b], row_size = lattice.sites / slices / rows;
        const int64_t blocks = std::max<int64_t>(1, reach == 1 ? rows / 2 : (rows + 2) / 4);
        std::vector<int64_t> number(rows), seen(slices * rows);
        for (int64_t c = 0, done = 0; done < rows; c++) {
            for (int64_t k = 0; k < blocks; k++) {
                const int64_t row = k * rows / blocks + c;
                if (row < (k + 1) * rows / blocks) number[row] = done++;
            }
            ends.push_back(done);
        }
        complete.resize(rows);
        for (int64_t k = 0; k < rows; k++)
            complete[std::max(number[k], number[(k + rows - 1) % rows])].push_back(number[k]);
        sites.resize(lattice.sites);
        for (int64_t s = 0; s < lattice.sites; s++) {
            const int64_t slice = s / lattice.stride[a] % slices, place = s / lattice.stride[b] % rows;
            const int64_t at = slice * rows + number[place];
            sites[at * row_size + seen[at]++] = s;
        }
    }
    int classes() const { return ends.size(); }
    int64_t begin(int c) const { return c ? ends[c - 1] : 0; }
    int64_t end(int c) const { return ends[c]; }
    const int32_t* row(int64_t slice, int64_t number) const { return &sites[(slice * rows + number) * row_size]; }
};

// Shares out the rows of a slice among the threads of a team, all of which call this.
template <class F> INLINE void each_row(const Order& order, int64_t slice, F f) {
#pragma omp for schedule(static) nowait
    for (int64_t row = 0; row < order.rows; row++) f(slice * order.rows + row);
}
// The same for what enters the next row, too, one class after the other, and leaves rows of the slice that are complete. All
// wait for its end.
template <class Enter, class Leave>
INLINE void each_row(const Order& order, Barrier& barrier, int64_t slice, Enter enter, Leave leave) {
    for (int c = 0; c < order.classes(); c++) {
#pragma omp for schedule(static) nowait
        for (int64_t row = order.begin(c); row < order.end(c); row++) {
            enter(slice * order.rows + row);
            for (int64_t other : order.complete[row]) leave(slice * order.rows + other);
        }
        barrier.wait();
    }
}

// Asks for the links that the next site will read, where the field is larger than the caches near the core.
template <int N> INLINE void prefetch_site(const Sublattices& lattice, const Field<Link<N>>& field, int32_t site, int part, bool below) {
    const auto ask = [&](Place p, int mu) {
        const char* first = reinterpret_cast<const char*>(field.at(p.site, mu, part));
        for (size_t i = 0; i < sizeof(Link<N>); i += 64) __builtin_prefetch(first + i, 0, 2);
    };
    const Place here{site, 0};
    for (int nu = 0; nu < lattice.dim; nu++) {
        const Place down = lattice.down(here, nu);
        for (int mu = 0; mu < lattice.dim; mu++) {
            if (below) ask(down, mu);
            if (mu != nu) ask(lattice.up(here, mu), nu);
            if (mu != nu && below) ask(lattice.up(down, mu), nu);
        }
    }
}

// The sum over the plaquettes of a site in its planes of weight times Re tr P, in double precision.
template <int N, class Weights>
void add_plaquettes(const Sublattices& lattice, const Field<Link<N>>& field, const Weights& couplings, int32_t site,
                    double (&total)[NODES]) {
    const Place here{site, 0};
    Link<N> ahead, path;
    for (int part = 0; part < PARTS; part++)
        for (int mu = 0; mu < lattice.dim; mu++)
            for (int nu = mu + 1; nu < lattice.dim; nu++) {
                const double weight = couplings.template weighed<false, true>(field.see(lattice, lattice.up(here, mu), nu, part),
                    field.see(lattice, lattice.up(here, nu), mu, part), mu, nu, lattice, here, part, ahead);
                link_product<false, false, false>(*field.at(site, mu, part), ahead, path);
                const vec found = overlap(path, *field.at(site, nu, part));
                for (int l = 0; l < L; l++) total[part * L + l] += weight * double(found[l]);
            }
}
