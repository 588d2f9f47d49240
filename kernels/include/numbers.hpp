// Random numbers of links.
#pragma once
#include "philox.hpp"
#include "sublattices.hpp"

// Four random numbers for each lane: those of block b in single, of blocks 2 b and 2 b + 1 in double precision.
INLINE void four(const Stream<uint32s>& stream, uint32s index, uint32_t links, uint32_t b, floats (&r)[4]) {
    uniforms(stream, index + b * links, r);
}
INLINE void four(const Stream<uint64s>& stream, uint64s index, uint32_t links, uint32_t b, doubles (&r)[4]) {
    for (uint32_t i = 0; i < 2; i++) {
        doubles two[2];
        uniforms(stream, index + (2 * b + i) * links, two);
        r[2 * i] = two[0], r[2 * i + 1] = two[1];
    }
}

// A call of the stream of each chain.
struct Streams {
    Stream<words_of<vec>> part[PARTS];

    Streams(const Bundle& bundle, const int64_t* keys, const int64_t* calls) {
        for (int k = 0; k < NODES; k++) part[k / L].set(k % L, keys + 2 * bundle.chain(k), calls[bundle.chain(k)]);
    }
    void next() {
        for (auto& own : part) own.call += 1;
    }
};

// The numbers of links: a function of the index of a link in the order of the lattice, and of the number of a draw.
struct Numbers {
    const Stream<words_of<vec>>& stream;
    words_of<vec> index;
    uint32_t links;

    Numbers(const Streams& streams, const Sublattices& lattice, int64_t site, int mu, int part)
        : stream(streams.part[part]), links(lattice.dim * lattice.lattice_sites) {
        for (int l = 0; l < L; l++) index[l] = lattice.link(site, mu, part * L + l);
    }
    INLINE void operator()(uint32_t number, vec (&r)[4]) const { four(stream, index, links, number, r); }
};
