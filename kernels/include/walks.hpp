// Links gathered along walks from where they lie: a block of walks at a time, one a lane.
#pragma once
#include "matrices.hpp"

struct Walk {
    const int64_t *table, *forward;
    int64_t steps, starts, links;

    // One step of every walk: a row of the table.
    INLINE const int64_t* row(int64_t step) const { return table + step * starts; }
};

// L walks, the first of them number `first` when those of all batch entries are counted through.
struct Block {
    int64_t entry[L], start[L];
    bool regular;  // there are L walks, all of one batch entry

    INLINE Block(const Walk& walk, int64_t first, int count) {
        int64_t b = first / walk.starts, j = first % walk.starts;
        for (int l = 0; l < L; l++) {
            entry[l] = b * walk.links, start[l] = j;
            if (l + 1 >= count) continue;
            if (++j == walk.starts) j = 0, b++;
        }
        regular = start[L - 1] - start[0] == L - 1;
    }

    // Whether all indices in a row are of one of so many links.
    INLINE bool inside(const int64_t* row, int64_t links) const {
        int64_t outside = 0;
        if (regular)
            for (int l = 0; l < L; l++) outside |= row[start[0] + l] | (links - 1 - row[start[0] + l]);
        else
            for (int l = 0; l < L; l++) outside |= row[start[l]] | (links - 1 - row[start[l]]);
        return outside >= 0;
    }

    // Where the links of a row lie in `field`, `width` numbers each.
    template <int width, class T> INLINE void records(const int64_t* row, T* field, T* (&record)[L]) const {
        if (regular)
            for (int l = 0; l < L; l++) {
                int64_t index = row[start[0] + l];
                asm("" : "+r"(index));  // or GCC makes vectors of pointers, only to take them apart
                record[l] = field + (entry[0] + index) * width;
            }
        else
            for (int l = 0; l < L; l++) record[l] = field + (entry[l] + row[start[l]]) * width;
    }
};

template <int N> INLINE void load_link(const Block& block, const int64_t* row, const real* links, Matrix<N>& m) {
    const real* record[L];
    vec tile[2 * N * N];
    block.records<2 * N * N>(row, links, record);
    if constexpr (2 * N * N >= PER) gather_tile(record, 2 * N * N, tile);
    else
        for (int l = 0; l < L; l++) tile[0][l] = record[l][0], tile[1][l] = record[l][1];  // N = 1
    from_tile(tile, m);
}

template <int N> INLINE void adjoin(Matrix<N>& m) {
    for (int i = 0; i < N; i++) {
        m.im[i][i] = -m.im[i][i];
        for (int j = i + 1; j < N; j++) {
            std::swap(m.re[i][j], m.re[j][i]);
            const vec upper = m.im[i][j];
            m.im[i][j] = -m.im[j][i], m.im[j][i] = -upper;
        }
    }
}
