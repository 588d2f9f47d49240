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

template <class V, int... I> INLINE V interleave_low(V a, V b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I / 2 + (I % 2) * lanes<V>)...);
}
template <class V, int... I> INLINE V interleave_high(V a, V b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (lanes<V> / 2 + I / 2 + (I % 2) * lanes<V>)...);
}

// A square of lanes x lanes numbers, transposed by perfect shuffles.
template <class V> INLINE void transpose(V (&rows)[lanes<V>]) {
    constexpr int n = lanes<V>;
    using index = std::make_integer_sequence<int, n>;
    for (int stage = 1; stage < n; stage *= 2) {
        V next[n];
        for (int i = 0; i < n / 2; i++) {
            next[2 * i] = interleave_low(rows[i], rows[i + n / 2], index{});
            next[2 * i + 1] = interleave_high(rows[i], rows[i + n / 2], index{});
        }
        for (int i = 0; i < n; i++) rows[i] = next[i];
    }
}

// L records of `width` numbers each, `stride` apart, to and from tiles in which lane l belongs to record l. A tile of a
// block that is not full repeats its last record, so that no lane computes with numbers that nobody gave.
INLINE void load_tile(const real* records, int64_t stride, int width, int count, vec* tile) {
    for (int first = 0; first < width; first += L) {
        vec rows[L];
        const int size = std::min(L, width - first);
        for (int l = 0; l < L; l++) {
            const real* record = records + std::min(l, count - 1) * stride + first;
            if (size == L) rows[l] = load<vec>(record);
            else {
                rows[l] = vec{};
                std::memcpy(&rows[l], record, size * sizeof(real));
            }
        }
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
        for (int l = 0; l < count; l++) std::memcpy(records + l * stride + first, &rows[l], size * sizeof(real));
    }
}

INLINE void store_lanes(real* out, int count, vec v) { std::memcpy(out, &v, count * sizeof(real)); }

INLINE vec load_lanes(const real* in, int count) {
    vec v = splat<vec>(in[count - 1]);
    std::memcpy(&v, in, count * sizeof(real));
    return v;
}
