// A periodic lattice cut into sublattices of equal extents, one a lane, and its links in that layout.
//
// There are 16 lanes. A lattice that is cut into fewer sublattices leaves room for further chains: lanes are those of the
// first chain, then those of the second one ... A neighbour across the border of all sublattices is a site of another lane
// of the chain: there alone lanes are permuted. Extents of a sublattice are >= 2, so that no two lanes ever hold neighbours
// at the same place. A link in this layout is an Element, of so many vectors; 16 lanes take PARTS of them.
#pragma once
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>
#include "tiles.hpp"
#if defined(__linux__)
#include <sys/mman.h>
#endif

constexpr int NODES = 16, PARTS = NODES / L, DIMS = 4;
constexpr int BORDERS = 81, INSIDE = 40;  // 3^DIMS: -1, 0 or 1 sublattices further in each direction

// A site of the sublattices, and which border was crossed on the way.
struct Place {
    int32_t site, border;
};

// Where the lanes of a part come from: lanes of one part.
struct Source {
    int part;
    mask_of<vec> lanes;
};

struct Sublattices {
    int dim;
    int64_t extent[DIMS], nodes[DIMS];  // of a sublattice; how many of them along each direction
    int64_t stride[DIMS], lattice_stride[DIMS], sites, lattice_sites;
    int64_t count, chains;              // of sublattices, and of chains that have theirs in the lanes
    int64_t node[NODES][DIMS] = {};     // their coordinates among all
    int64_t node_offset[NODES];         // of the first site of each, in the order of the lattice
    std::vector<int64_t> first;         // of the site of node 0, in the order of the lattice
    std::vector<Place> steps;           // (site, direction, up or down)
    Source from[BORDERS][PARTS];

    Sublattices(int dim_, const int64_t* extents, const int64_t* nodes_) : dim(dim_), sites(1), lattice_sites(1), count(1) {
        for (int mu = dim - 1; mu >= 0; mu--) {
            nodes[mu] = nodes_[mu], extent[mu] = extents[mu] / nodes[mu];
            stride[mu] = sites, lattice_stride[mu] = lattice_sites;
            sites *= extent[mu], lattice_sites *= extents[mu], count *= nodes[mu];
        }
        chains = NODES / count;
        first.resize(sites), steps.resize(sites * dim * 2);
        for (int64_t s = 0; s < sites; s++) {
            first[s] = 0;
            int weight = 1;
            for (int mu = 0; mu < dim; mu++, weight *= 3) {
                const int64_t x = s / stride[mu] % extent[mu];
                const bool last = x == extent[mu] - 1, split = nodes[mu] > 1;
                first[s] += x * lattice_stride[mu];
                Place* to = &steps[(s * dim + mu) * 2];
                to[0] = {int32_t(s + (last ? -x : 1) * stride[mu]), last && split ? weight : 0};
                to[1] = {int32_t(s + (x == 0 ? extent[mu] - 1 : -1) * stride[mu]), x == 0 && split ? -weight : 0};
            }
        }
        // The last binary digits of coordinates come first in the numbers of nodes: then one step along a direction takes the
        // lanes of a part to those of one part, however many lanes a part has.
        int64_t number[NODES];
        for (int k = 0; k < NODES; k++) {
            for (int64_t digit = 1, rest = count / 2; rest; digit *= 2)
                for (int mu = 0; mu < dim; mu++)
                    if (nodes[mu] > digit) node[k][mu] += k & rest ? digit : 0, rest /= 2;
            int64_t row_major = 0;
            node_offset[k] = 0;
            for (int mu = 0; mu < dim; mu++) {
                row_major = row_major * nodes[mu] + node[k][mu];
                node_offset[k] += node[k][mu] * extent[mu] * lattice_stride[mu];
            }
            number[row_major] = k % count;
        }
        for (int border = 0; border < BORDERS; border++)
            for (int k = 0; k < NODES; k++) {
                int64_t source = 0;
                for (int mu = 0, code = border; mu < dim; mu++, code /= 3)
                    source = source * nodes[mu] + (node[k][mu] + code % 3 - 1 + nodes[mu]) % nodes[mu];
                const int64_t lane = k / count * count + number[source];  // of the same chain
                from[border][k / L].part = lane / L;
                from[border][k / L].lanes[k % L] = lane % L;
            }
    }

    INLINE Place up(Place p, int mu) const { return step(p, mu, 0); }
    INLINE Place down(Place p, int mu) const { return step(p, mu, 1); }
    INLINE Place step(Place p, int mu, int way) const {
        const Place next = steps[(int64_t(p.site) * dim + mu) * 2 + way];
        return {next.site, p.border + next.border};
    }

    // The index of U_mu at a site of the sublattices, of the k-th node, in the order of the lattice.
    INLINE int64_t link(int64_t site, int mu, int k) const { return mu * lattice_sites + first[site] + node_offset[k]; }
    int64_t bundles(int64_t chains_) const { return (chains_ + chains - 1) / chains; }
};

// The chains of a field. Where they are fewer than there is room for, the last one is there several times, alike to the bit.
struct Bundle {
    const Sublattices& lattice;
    int64_t first, count;
    int64_t offset[NODES];  // of the links of a node, among those of all chains

    Bundle(const Sublattices& lattice_, int64_t number, int64_t chains)
        : lattice(lattice_), first(number * lattice.chains), count(std::min(lattice.chains, chains - first)) {
        for (int k = 0; k < NODES; k++)
            offset[k] = chain(k) * lattice.dim * lattice.lattice_sites + lattice.node_offset[k];
    }
    int64_t chain(int k) const { return first + std::min(k / lattice.count, count - 1); }
    // The index of U_mu at a site, of the k-th node, among the links of all chains.
    INLINE int64_t link(int64_t site, int mu, int k) const { return mu * lattice.lattice_sites + lattice.first[site] + offset[k]; }
    // Calls f for the nodes of the i-th of these chains.
    template <class F> INLINE void each(int64_t i, F f) const {
        for (int64_t k = i * lattice.count; k < (i + 1) * lattice.count; k++) f(k);
    }
};

// The sum over all rows and the sublattices of the i-th chain, in an order that is always the same.
template <class Row> double sum(const std::vector<Row>& rows, double (Row::*kind)[NODES], const Bundle& bundle, int64_t i) {
    double total = 0;
    for (const Row& row : rows) bundle.each(i, [&](int k) { total += (row.*kind)[k]; });
    return total;
}

// A number for each node.
struct PerNode {
    vec part[PARTS];

    explicit PerNode(double all = 0) {
        for (vec& own : part) own = splat<vec>(all);
    }
    // of(chain)
    template <class F> PerNode(const Bundle& bundle, F of) {
        for (int k = 0; k < NODES; k++) part[k / L][k % L] = of(bundle.chain(k));
    }
    real operator[](int k) const { return part[k / L][k % L]; }
    bool zero() const {
        bool all = true;
        for (int k = 0; k < NODES; k++) all &= (*this)[k] == 0;
        return all;
    }
};

// What threads share out: whole bundles of chains, or the rows of one after the other.
struct Sharing {
    bool bundles, rows;
    Sharing(const Sublattices& lattice, int64_t count, int64_t threads)
        : bundles(threads > 1 && (count % threads == 0 || count >= 4 * threads)),
          rows(!bundles && threads > 1 && lattice.sites >= 32) {}
};

// Where the threads of a team wait for each other. They are awake: to be woken would take as long as some of what they do
// between two waits. Those who wait for long let others run. All join before the first of OpenMP's own barriers.
class Barrier {
    std::atomic<int64_t> team{0}, arrived{0}, round{0};

  public:
    void join() { team++; }
    void wait() {
        const int64_t now = round;
        if (++arrived == team) {
            arrived = 0;
            round = now + 1;
        } else
            for (int tries = 0; round == now; tries++)
                if (tries > 100) std::this_thread::yield();
    }
};

constexpr size_t PAGE = 1 << 21;  // a huge one

// Asks for huge pages in memory that nobody has written to yet: many small ones cost more than what is written.
INLINE void huge_pages(void* memory, size_t bytes) {
#if defined(MADV_HUGEPAGE)
    const uintptr_t begin = (uintptr_t(memory) + PAGE - 1) / PAGE * PAGE, end = (uintptr_t(memory) + bytes) / PAGE * PAGE;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

// Memory of fields, which the next call finds again: to get it from the system, page by page, can take longer than a sweep.
class Memory {
    static constexpr size_t MOST = size_t(256) << 20;  // bytes that are kept
    struct Block {
        void* data;
        size_t bytes;
    };
    std::mutex mutex;
    std::vector<Block> kept;
    size_t total = 0;

    void* pop(size_t k) {
        void* data = kept[k].data;
        total -= kept[k].bytes;
        kept.erase(kept.begin() + k);
        return data;
    }

  public:
    ~Memory() {
        while (!kept.empty()) std::free(pop(0));
    }
    void* take(size_t bytes) {
        {
            const std::lock_guard<std::mutex> lock(mutex);
            for (size_t k = 0; k < kept.size(); k++)
                if (kept[k].bytes == bytes) return pop(k);
        }
        void* data = nullptr;
        if (posix_memalign(&data, bytes < PAGE ? 64 : PAGE, bytes)) return nullptr;
        huge_pages(data, bytes);
        return data;
    }
    // The oldest blocks make room.
    void give(void* data, size_t bytes) {
        if (!data || bytes > MOST) return std::free(data);
        const std::lock_guard<std::mutex> lock(mutex);
        while (total + bytes > MOST) std::free(pop(0));
        kept.push_back({data, bytes});
        total += bytes;
    }
    static Memory& shared() {
        static Memory memory;
        return memory;
    }
};

// A link as it lies in memory, and, beyond a border, which of its lanes are where; else null.
struct Seen {
    const vec* numbers;
    const mask_of<vec>* lanes;
};

// The link itself, or a copy in `room` whose lanes are permuted.
template <class Element> INLINE const Element& own(const Seen& link, Element& room) {
    if (!link.lanes) return *reinterpret_cast<const Element*>(link.numbers);
    const auto lanes_of = *link.lanes;
    vec* out = reinterpret_cast<vec*>(&room);
    for (size_t k = 0; k < sizeof(Element) / sizeof(vec); k++) out[k] = __builtin_shuffle(link.numbers[k], lanes_of);
    return room;
}

// The links of a bundle of chains, (site, direction, part); the memory is its own, and `data` null where there is none to be had.
template <class Element> struct Field {
    Element* data = nullptr;
    int dim;  // the number of elements of a site
    size_t bytes;
    bool large;  // so that a core cannot keep it near

    Field(const Sublattices& lattice) : Field(lattice, lattice.dim) {}
    // So many at each site.
    Field(const Sublattices& lattice, int count)
        : dim(count), bytes(lattice.sites * dim * PARTS * sizeof(Element)), large(bytes > 2 * PAGE) {
        data = static_cast<Element*>(Memory::shared().take(bytes));
    }
    ~Field() { Memory::shared().give(data, bytes); }
    Field(const Field&) = delete;
    Field& operator=(const Field&) = delete;

    INLINE Element* at(int64_t site, int mu, int part) const { return data + (site * dim + mu) * PARTS + part; }

    // U_mu at a place.
    INLINE Seen see(const Sublattices& lattice, Place p, int mu, int part) const {
        if (p.border == 0) return {reinterpret_cast<const vec*>(at(p.site, mu, part)), nullptr};
        const Source& from = lattice.from[INSIDE + p.border][part];
        return {reinterpret_cast<const vec*>(at(p.site, mu, from.part)), &from.lanes};
    }

    // U_mu at a place, itself or a copy in `room` whose lanes are permuted.
    INLINE const Element& fetch(const Sublattices& lattice, Place p, int mu, int part, Element& room) const {
        return own(see(lattice, p, mu, part), room);
    }
};

// The elements one step ahead of a site, while things are added to them: those themselves, or, beyond the border of all
// sublattices, sums that `finish` adds once all parts are done.
template <class Element> struct Ahead {
    const Sublattices& lattice;
    const Field<Element>& field;
    int32_t site;
    Element beyond[DIMS][DIMS][PARTS];  // U_mu of a site further along nu

    Ahead(const Sublattices& lattice_, const Field<Element>& field_, int32_t site_)
        : lattice(lattice_), field(field_), site(site_) {}

    // To be called once for each part.
    INLINE Element& at(int mu, int nu, int part) {
        const Place there = lattice.up({site, 0}, nu);
        if (there.border == 0) return *field.at(there.site, mu, part);
        return beyond[mu][nu][part] = Element{};
    }

    INLINE void finish() {
        constexpr int VECTORS = sizeof(Element) / sizeof(vec);
        for (int nu = 0; nu < lattice.dim; nu++) {
            const Place there = lattice.up({site, 0}, nu);
            for (int mu = 0; mu < lattice.dim; mu++) {
                if (mu == nu || there.border == 0) continue;
                const vec* from = reinterpret_cast<const vec*>(beyond[mu][nu]);
                for (int part = 0; part < PARTS; part++) {
                    vec* to = reinterpret_cast<vec*>(field.at(there.site, mu, part));
                    const Source& source = lattice.from[INSIDE - there.border][part];
                    for (int k = 0; k < VECTORS; k++) to[k] += __builtin_shuffle(from[source.part * VECTORS + k], source.lanes);
                }
            }
        }
    }
};

// Writes records wherever they lie.
template <int width, int first = 0> INLINE void scatter_tile(real* const (&record)[L], const vec (&tile)[width]) {
    constexpr int size = std::min(L, width - first);
    vec rows[L];
    for (int k = 0; k < L; k++) rows[k] = k < size ? tile[first + k] : vec{};
    transpose(rows);
    for (int l = 0; l < L; l++) std::memcpy(record[l] + first, &rows[l], size * sizeof(real));
    if constexpr (first + L < width) scatter_tile<width, first + L>(record, tile);
}

// Links of all chains (chain, direction, site, width) to and from this layout, a slice of sites at a time.
template <class Element> INLINE void pack(const Bundle& bundle, const real* links, const Field<Element>& field, int64_t site) {
    const Sublattices& lattice = bundle.lattice;
    const int64_t next = std::min(site + 1, lattice.sites - 1);  // the processor does not foresee so many places
    for (int mu = 0; mu < lattice.dim; mu++)
        for (int part = 0; part < PARTS; part++) {
            constexpr int width = Element::WIDTH;
            const real* record[L];
            vec tile[width];
            for (int l = 0; l < L; l++) {
                record[l] = links + bundle.link(site, mu, part * L + l) * width;
                prefetch(links + bundle.link(next, mu, part * L + l) * width, width);
            }
            if constexpr (width >= PER) gather_tile(record, width, tile);
            else
                for (int l = 0; l < L; l++) tile[0][l] = *record[l];
            field.at(site, mu, part)->from_record(tile);
        }
}
template <class Element> INLINE void unpack(const Bundle& bundle, const Field<Element>& field, real* links, int64_t site) {
    for (int mu = 0; mu < bundle.lattice.dim; mu++)
        for (int part = 0; part < PARTS; part++) {
            constexpr int width = Element::WIDTH;
            real* record[L];
            vec tile[width];
            for (int l = 0; l < L; l++) record[l] = links + bundle.link(site, mu, part * L + l) * width;
            field.at(site, mu, part)->to_record(tile);
            if constexpr (width >= PER) scatter_tile<width>(record, tile);
            else
                for (int l = 0; l < L; l++) *record[l] = tile[0][l];
        }
}
