// Records that lie anywhere: gathered into tiles, in which lane l belongs to record l, and tiles added to records.
#pragma once
#include "tiles.hpp"

template <int width> INLINE void gather_tile(const real* const (&record)[L], vec (&tile)[width]) {
    if constexpr (width < PER) {
        for (int l = 0; l < L; l++)
            for (int k = 0; k < width; k++) tile[k][l] = record[l][k];
    } else {
        for (int first = 0; first + PER < width; first += PER) load_columns(record, first, tile + first);
        load_columns(record, width - PER, tile + width - PER);  // some columns for a second time
    }
}

// One record after the other: two lanes may belong to the same.
template <int width, int first = 0> INLINE void add_tile(real* const (&record)[L], int count, const vec (&tile)[width]) {
    constexpr int size = std::min(L, width - first);
    vec rows[L];
    for (int k = 0; k < L; k++) rows[k] = k < size ? tile[first + k] : vec{};
    transpose(rows);
    // a vector of just that size: a masked store would make the next load wait, as if it had written all of L numbers
    typedef real part __attribute__((vector_size(size * sizeof(real))));
    for (int l = 0; l < count; l++) {
        part sum, addend;
        std::memcpy(&sum, record[l] + first, sizeof(part));
        std::memcpy(&addend, &rows[l], sizeof(part));
        sum += addend;
        std::memcpy(record[l] + first, &sum, sizeof(part));
    }
    if constexpr (first + L < width) add_tile<width, first + L>(record, count, tile);
}
