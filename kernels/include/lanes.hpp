// Vectors of lanes: one matrix, or one angle, a lane. GCC's vector extensions, so that any CPU serves.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
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

// The second of the two where one is NaN. GCC would compare and blend.
template <class V> INLINE V max_(V a, V b) {
#if defined(__AVX512F__)
    if constexpr (sizeof(scalar_of<V>) == 4) return (V)_mm512_max_ps((__m512)a, (__m512)b);
    else return (V)_mm512_max_pd((__m512d)a, (__m512d)b);
#else
    return a > b ? a : b;
#endif
}
template <class V> INLINE V min_(V a, V b) {
#if defined(__AVX512F__)
    if constexpr (sizeof(scalar_of<V>) == 4) return (V)_mm512_min_ps((__m512)a, (__m512)b);
    else return (V)_mm512_min_pd((__m512d)a, (__m512d)b);
#else
    return a < b ? a : b;
#endif
}

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
// fraction of the time of a division. Not for 0; of infinity NaN, on every CPU. With SAME_BITS both are the rounded ones.
template <class V> INLINE V reciprocal(V a) {
#if defined(SAME_BITS)
    return 1 / a;
#elif defined(__AVX512F__)
    if constexpr (sizeof(scalar_of<V>) == 4) {
        const V r = (V)_mm512_rcp14_ps((__m512)a);
        return r + r * (1 - a * r);
    } else {
        V r = (V)_mm512_rcp14_pd((__m512d)a);
        r += r * (1 - a * r);
        return r + r * (1 - a * r);
    }
#else
    const V r = 1 / a;
    return r + r * (1 - a * r);
#endif
}

// 1 / sqrt(a) likewise.
template <class V> INLINE V reciprocal_sqrt(V a) {
#if !defined(SAME_BITS) && defined(__AVX512F__)
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

// Asks for what the next block will read while this one is computed with. Beyond the end it asks in vain, no more.
INLINE void prefetch(const real* p, int64_t size) {
    for (int64_t i = 0; i < size; i += 64 / sizeof(real)) __builtin_prefetch(p + i);
}

INLINE vec load_lanes(const real* in, int count) {
    vec v = load_part(in, count);
    for (int l = count; l < L; l++) v[l] = in[count - 1];
    return v;
}
