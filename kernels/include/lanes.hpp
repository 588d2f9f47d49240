// Vectors of lanes: one matrix, or one angle, a lane. GCC's vector extensions, so that any CPU serves.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int BYTES = 64;
#elif defined(__AVX__)
#include <immintrin.h>
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

#define INLINE inline __attribute__((always_inline))

typedef float floats __attribute__((vector_size(BYTES)));
typedef double doubles __attribute__((vector_size(BYTES)));
typedef int32_t int32s __attribute__((vector_size(BYTES)));
typedef int64_t int64s __attribute__((vector_size(BYTES)));

template <class V> struct traits;
template <> struct traits<floats> {
    using scalar = float;
    using mask = int32s;
    static constexpr float eps = 1.1920929e-7f, tiny = 1.17549435e-38f;
};
template <> struct traits<doubles> {
    using scalar = double;
    using mask = int64s;
    static constexpr double eps = 2.220446049250313e-16, tiny = 2.2250738585072014e-308;
};
template <class V> using scalar_of = typename traits<V>::scalar;
template <class V> using mask_of = typename traits<V>::mask;
template <class V> constexpr int lanes = BYTES / sizeof(scalar_of<V>);

// The precision that this file is compiled for.
using real = REAL;
using vec = std::conditional_t<sizeof(real) == 4, floats, doubles>;
constexpr int L = lanes<vec>;

template <class V> INLINE V splat(double x) { return V{} + scalar_of<V>(x); }
template <class V> INLINE V select(mask_of<V> m, V a, V b) { return m ? a : b; }
template <class V> INLINE V max_(V a, V b) { return a > b ? a : b; }
template <class V> INLINE V min_(V a, V b) { return a < b ? a : b; }

template <class V> INLINE V abs_(V a) {
    using M = mask_of<V>;
    constexpr auto sign = sizeof(scalar_of<V>) == 4 ? 0x7fffffffLL : 0x7fffffffffffffffLL;
    M bits = (M)a;
    return (V)(bits & (decltype(bits[0] + bits[0]))sign);
}

// |a| with the sign of b
template <class V> INLINE V copysign_(V a, V b) {
    using M = mask_of<V>;
    M magnitude = (M)abs_(a), sign = (M)b ^ (M)abs_(b);
    return (V)(magnitude | sign);
}

template <class V> INLINE V sqrt_(V a) {
#if defined(__AVX512F__)
    if constexpr (sizeof(scalar_of<V>) == 4) return (V)_mm512_sqrt_ps((__m512)a);
    else return (V)_mm512_sqrt_pd((__m512d)a);
#elif defined(__AVX__)
    if constexpr (sizeof(scalar_of<V>) == 4) return (V)_mm256_sqrt_ps((__m256)a);
    else return (V)_mm256_sqrt_pd((__m256d)a);
#else
    V r;
    for (int i = 0; i < lanes<V>; i++) r[i] = std::sqrt(a[i]);
    return r;
#endif
}

// 1 / a to a unit in the last place or two: an estimate of 14 bits, and as many Newton steps as the precision wants, in a
// fraction of the time of a division. Not for 0.
template <class V> INLINE V reciprocal(V a) {
#if defined(__AVX512F__)
    if constexpr (sizeof(scalar_of<V>) == 4) {
        const V r = (V)_mm512_rcp14_ps((__m512)a);
        return r + r * (1 - a * r);
    } else {
        V r = (V)_mm512_rcp14_pd((__m512d)a);
        r += r * (1 - a * r);
        return r + r * (1 - a * r);
    }
#else
    return 1 / a;
#endif
}

// 1 / sqrt(a) likewise.
template <class V> INLINE V reciprocal_sqrt(V a) {
#if defined(__AVX512F__)
    const V half = a * scalar_of<V>(0.5);
    if constexpr (sizeof(scalar_of<V>) == 4) {
        const V r = (V)_mm512_rsqrt14_ps((__m512)a);
        return r + r * (scalar_of<V>(0.5) - half * r * r);
    } else {
        V r = (V)_mm512_rsqrt14_pd((__m512d)a);
        r += r * (scalar_of<V>(0.5) - half * r * r);
        return r + r * (scalar_of<V>(0.5) - half * r * r);
    }
#else
    return 1 / sqrt_(a);
#endif
}

template <class M> INLINE bool any(M m) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)m, (__m512i)m) != 0;
#endif
    decltype(m[0] + m[0]) seen = 0;
    for (unsigned i = 0; i < BYTES / sizeof(m[0]); i++) seen |= m[i];
    return seen != 0;
}

template <class V> INLINE V load(const scalar_of<V>* p) {
    V v;
    std::memcpy(&v, p, BYTES);
    return v;
}
template <class V> INLINE void store(scalar_of<V>* p, V v) { std::memcpy(p, &v, BYTES); }

// The first `count` lanes alone are read or written; memcpy of a variable size would be a loop over bytes.
INLINE vec load_part(const real* p, int count) {
#if defined(__AVX512F__)
    if constexpr (sizeof(real) == 4) return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
    else return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1), p);
#else
    vec v = {};
    for (int i = 0; i < count; i++) v[i] = p[i];
    return v;
#endif
}
INLINE void store_part(real* p, int count, vec v) {
#if defined(__AVX512F__)
    if constexpr (sizeof(real) == 4) _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
    else _mm512_mask_storeu_pd(p, (__mmask8)((1u << count) - 1), (__m512d)v);
#else
    for (int i = 0; i < count; i++) p[i] = v[i];
#endif
}

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

// A square of lanes x lanes numbers.
template <class V> INLINE void transpose(V (&rows)[lanes<V>]) {
    constexpr int n = lanes<V>, per = 16 / sizeof(scalar_of<V>);
    using index = std::make_integer_sequence<int, n>;
    V next[n];
    for (int i = 0; i < n; i += 2) {
        next[i] = unpack<V, 1, false>(rows[i], rows[i + 1], index{});
        next[i + 1] = unpack<V, 1, true>(rows[i], rows[i + 1], index{});
    }
    for (int i = 0; i < n; i++) rows[i] = next[i];
    if constexpr (per == 4) {
        for (int i = 0; i < n; i += 4)
            for (int j = 0; j < 2; j++) {
                next[i + 2 * j] = unpack<V, 2, false>(rows[i + j], rows[i + j + 2], index{});
                next[i + 2 * j + 1] = unpack<V, 2, true>(rows[i + j], rows[i + j + 2], index{});
            }
        for (int i = 0; i < n; i++) rows[i] = next[i];
    }
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

// L records of `width` numbers each, `stride` apart, to and from tiles in which lane l belongs to record l. A tile of a
// block that is not full repeats its last record, so that no lane computes with numbers that nobody gave.
INLINE void load_tile(const real* records, int64_t stride, int width, int count, vec* tile) {
    for (int first = 0; first < width; first += L) {
        vec rows[L];
        const int size = std::min(L, width - first);
        for (int l = 0; l < L; l++) rows[l] = load_part(records + std::min(l, count - 1) * stride + first, size);
        transpose(rows);
        for (int k = 0; k < size; k++) tile[first + k] = rows[k];
    }
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

// Asks for what the next block will read while this one is computed with. Beyond the end it asks in vain, no more.
INLINE void prefetch(const real* p, int64_t size) {
    for (int64_t i = 0; i < size; i += 64 / sizeof(real)) __builtin_prefetch(p + i);
}

INLINE void store_lanes(real* out, int count, vec v) { store_part(out, count, v); }

INLINE vec load_lanes(const real* in, int count) {
    vec v = load_part(in, count);
    for (int l = count; l < L; l++) v[l] = in[count - 1];
    return v;
}
