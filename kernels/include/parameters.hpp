// Parameters (outer, rows, n_params) in whatever layout they come: row by row as from a linear map, plane by plane as
// from a convolution, or any other.
#pragma once
#include "tiles.hpp"

template <class T> struct Parameters {
    T* data;
    int64_t rows, outer_stride, row_stride, stride;

    INLINE int64_t offset(int64_t m) const { return m / rows * outer_stride + m % rows * row_stride; }
    // Whether `count` records from m on are `row_stride` apart.
    INLINE bool regular(int64_t m, int count) const {
        return m % rows + count <= rows || outer_stride == rows * row_stride;
    }
};

INLINE void prefetch_parameters(const Parameters<const real>& p, int64_t m, int width) {
    if (!p.regular(m, L)) return;
    const real* first = p.data + p.offset(m);
    if (p.stride == 1) prefetch(first, L * p.row_stride);
    else if (p.row_stride == 1)
        for (int k = 0; k < width; k++) __builtin_prefetch(first + k * p.stride);
}

// Asks for what the next block will read, too.
INLINE void load_parameters(const Parameters<const real>& p, int64_t m, int count, int width, vec* tile) {
    prefetch_parameters(p, m + L, width);
    const bool regular = p.regular(m, count);
    const real* first = p.data + p.offset(m);
    if (regular && p.stride == 1) return load_tile(first, p.row_stride, width, count, tile);
    if (regular && p.row_stride == 1 && count == L) {
        for (int k = 0; k < width; k++) tile[k] = load<vec>(first + k * p.stride);
        return;
    }
    for (int l = 0; l < L; l++) {
        const real* record = p.data + p.offset(m + std::min(l, count - 1));
        for (int k = 0; k < width; k++) tile[k][l] = record[k * p.stride];
    }
}

INLINE void store_parameters(const Parameters<real>& p, int64_t m, int count, int width, const vec* tile) {
    const bool regular = p.regular(m, count);
    real* first = p.data + p.offset(m);
    if (regular && p.stride == 1) return store_tile(first, p.row_stride, width, count, tile);
    if (regular && p.row_stride == 1 && count == L) {
        for (int k = 0; k < width; k++) store(first + k * p.stride, tile[k]);
        return;
    }
    for (int l = 0; l < count; l++) {
        real* record = p.data + p.offset(m + l);
        for (int k = 0; k < width; k++) record[k * p.stride] = tile[k][l];
    }
}

// Runs body(first, count) over blocks of at most L of `total`, in so many threads, each with a copy of its own; in how many
// blocks it returns false.
template <class Body> int64_t for_blocks(int64_t total, int threads, Body body) {
    const int64_t blocks = (total + L - 1) / L;
    int64_t failed = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : failed) firstprivate(body) schedule(static) \
    if (threads > 1 && blocks > 1)
    for (int64_t b = 0; b < blocks; b++) failed += !body(b * L, (int)std::min<int64_t>(L, total - b * L));
    return failed;
}
