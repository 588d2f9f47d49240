// Records in memory, to and from tiles of vectors in which lane l belongs to record l.
#pragma once
#include "lanes.hpp"

// Shuffles that every vector unit does in one instruction: within each 16 bytes, units of `size` numbers from the lower
// (or upper) halves of a and b alternate; or the even (or odd) 16 bytes of a, then those of b.
template <class V, int size, bool upper, int... I> INLINE V unpack(V a, V b, std::integer_sequence<int, I...>) {
    constexpr int per = 16 / sizeof(scalar_of<V>);
    return __builtin_shufflevector(a, b, (I / per * per + upper * per / 2 + I % per / (2 * size) * size + I % size +
                                          (I / size % 2) * lanes<V>)...);
}
template <class V, bool odd, int... I> INLINE V gather_sixteenths(V a, V b, std::integer_sequence<int, I...>) {
    constexpr int per = 16 / sizeof(scalar_of<V>), n = lanes<V>;
    return __builtin_shufflevector(a, b, (I / (n / 2) * n + (I % (n / 2) / per * 2 + odd) * per + I % per)...);
}

// As many vectors as 16 bytes have numbers: in each sixteenth byte of them, a square.
template <class V> INLINE void transpose_sixteenths(V* rows) {
    constexpr int n = 16 / sizeof(scalar_of<V>);
    using index = std::make_integer_sequence<int, lanes<V>>;
    V next[n];
    for (int i = 0; i < n; i += 2) {
        next[i] = unpack<V, 1, false>(rows[i], rows[i + 1], index{});
        next[i + 1] = unpack<V, 1, true>(rows[i], rows[i + 1], index{});
    }
    for (int i = 0; i < n; i++) rows[i] = next[i];
    if constexpr (n == 4)
        for (int i = 0; i < 2; i++) {
            rows[2 * i] = unpack<V, 2, false>(next[i], next[i + 2], index{});
            rows[2 * i + 1] = unpack<V, 2, true>(next[i], next[i + 2], index{});
        }
}

// A square of lanes x lanes numbers.
template <class V> INLINE void transpose(V (&rows)[lanes<V>]) {
    constexpr int n = lanes<V>, per = 16 / sizeof(scalar_of<V>);
    using index = std::make_integer_sequence<int, n>;
    V next[n];
    for (int i = 0; i < n; i += per) transpose_sixteenths(rows + i);
    if constexpr (per < n) {
        for (int step = per; step < n; step *= 2) {
            for (int i = 0; i < n; i++)
                if (!(i & step)) {
                    next[i] = gather_sixteenths<V, false>(rows[i], rows[i + step], index{});
                    next[i + step] = gather_sixteenths<V, true>(rows[i], rows[i + step], index{});
                }
            for (int i = 0; i < n; i++) rows[i] = next[i];
        }
    }
}

// `n` times 16 bytes, one after the other in a vector.
typedef real sixteenth __attribute__((vector_size(16)));
constexpr int PER = 16 / sizeof(real);

template <class H, int... I> INLINE auto concatenate(H a, H b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, I...);
}
template <int n> INLINE auto join(const sixteenth* parts) {
    if constexpr (n == 1) return *parts;
    else return concatenate(join<n / 2>(parts), join<n / 2>(parts + n / 2), std::make_integer_sequence<int, n * PER>{});
}

// 16 bytes of each of L records, as PER columns of a tile. Vectors are read from records that are PER apart: then half
// of the shuffles of a whole transposition are done by the loads.
INLINE void load_columns(const real* const (&record)[L], int first, vec* columns) {
    for (int i = 0; i < PER; i++) {
        sixteenth parts[L / PER];
        for (int k = 0; k < L / PER; k++) std::memcpy(&parts[k], record[PER * k + i] + first, 16);
        columns[i] = join<L / PER>(parts);
    }
    transpose_sixteenths(columns);
}

// L records of `width` numbers each, 16 bytes or more, wherever they lie.
INLINE void gather_tile(const real* const (&record)[L], int width, vec* tile) {
    for (int first = 0; first + PER < width; first += PER) load_columns(record, first, tile + first);
    load_columns(record, width - PER, tile + width - PER);  // some columns for a second time
}

// The same of records `stride` apart. A tile of a block that is not full repeats its
// last record, so that no lane computes with numbers that nobody gave.
INLINE void load_tile(const real* records, int64_t stride, int width, int count, vec* tile) {
    const real* record[L];
    for (int l = 0; l < L; l++) record[l] = records + std::min(l, count - 1) * stride;
    gather_tile(record, width, tile);
}

INLINE void store_tile(real* records, int64_t stride, int width, int count, const vec* tile) {
    for (int first = 0; first < width; first += L) {
        vec rows[L];
        const int size = std::min(L, width - first);
        for (int k = 0; k < L; k++) rows[k] = k < size ? tile[first + k] : vec{};
        transpose(rows);
        for (int l = 0; l < count; l++) store_part(records + l * stride + first, size, rows[l]);
    }
}

// The same for records that follow each other, of a width that the compiler knows: it drops what that leaves idle.
template <int width, int first = 0> INLINE void load_tile(const real* records, int count, vec (&tile)[width]) {
    constexpr int size = std::min(L, width - first);
    vec rows[L];
    for (int l = 0; l < L; l++) rows[l] = load_part(records + std::min(l, count - 1) * width + first, size);
    transpose(rows);
    for (int k = 0; k < size; k++) tile[first + k] = rows[k];
    if constexpr (first + L < width) load_tile<width, first + L>(records, count, tile);
}

template <int width, int first = 0> INLINE void store_tile(real* records, int count, const vec (&tile)[width]) {
    constexpr int size = std::min(L, width - first);
    vec rows[L];
    for (int k = 0; k < L; k++) rows[k] = k < size ? tile[first + k] : vec{};
    transpose(rows);
    for (int l = 0; l < count; l++) store_part(records + l * width + first, size, rows[l]);
    if constexpr (first + L < width) store_tile<width, first + L>(records, count, tile);
}

// Adds to records that lie anywhere, one after the other: two lanes may belong to the same.
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
