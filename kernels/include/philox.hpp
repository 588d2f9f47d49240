// Philox4x32-10 of J. K. Salmon et al., SC11 (2011): random numbers as a function of a key and a counter, in lanes.
//
// A stream is named by 128 bits. Block b of its call c has the key (bits 0-31, bits 32-63) and the counter (b, c, bits
// 64-95, bits 96-127), and gives four words of 32 bits.
#pragma once
#include "lanes.hpp"

typedef uint32_t uint32s __attribute__((vector_size(BYTES)));
typedef uint64_t uint64s __attribute__((vector_size(BYTES)));

// Words in as many lanes as a vector of real numbers has: in lanes of 64 bits the upper half may hold anything.
template <class V> using words_of = std::conditional_t<sizeof(scalar_of<V>) == 4, uint32s, uint64s>;

// Products of 64 bits with the lower halves of the lanes.
INLINE uint64s wide_product(uint64s a, uint32_t b) {
#if defined(__AVX512F__)
    return (uint64s)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(b));
#elif defined(__AVX2__)
    return (uint64s)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
#else
    return (a & 0xffffffffu) * uint64_t(b);
#endif
}
INLINE void product(uint64s a, uint32_t b, uint64s& high, uint64s& low) {
    low = wide_product(a, b);
    high = low >> 32;
}
INLINE void product(uint32s a, uint32_t b, uint32s& high, uint32s& low) {
    constexpr uint64_t upper = 0xffffffff00000000u;
    const uint64s even = wide_product((uint64s)a, b), odd = wide_product((uint64s)a >> 32, b);
    high = (uint32s)((even >> 32) | (odd & upper));
    low = (uint32s)((even & ~upper) | (odd << 32));
}

template <class W> INLINE void philox(W key0, W key1, W (&c)[4]) {
    for (int round = 0; round < 10; round++) {
        W high0, low0, high1, low1;
        product(c[0], 0xD2511F53u, high0, low0);
        product(c[2], 0xCD9E8D57u, high1, low1);
        c[0] = high1 ^ c[1] ^ key0;
        c[1] = low1;
        c[2] = high0 ^ c[3] ^ key1;
        c[3] = low0;
        key0 += 0x9E3779B9u, key1 += 0xBB67AE85u;
    }
}

// 0, 1, 2, ...
template <class W> INLINE W lane_numbers() {
    W number;
    for (unsigned l = 0; l < BYTES / sizeof(number[0]); l++) number[l] = l;
    return number;
}

// A call of a stream in each lane: the name of the stream in four words, and the number of the call.
template <class W> struct Stream {
    W name[4], call;

    void set(int lane, const int64_t* names, int64_t number) {
        for (int i = 0; i < 4; i++) name[i][lane] = uint32_t(uint64_t(names[i / 2]) >> (32 * (i % 2)));
        call[lane] = uint32_t(number);
    }
    // The words of the blocks whose numbers are in the lanes.
    INLINE void words(W blocks, W (&c)[4]) const {
        c[0] = blocks, c[1] = call, c[2] = name[2], c[3] = name[3];
        philox(name[0], name[1], c);
    }
};

// Numbers in [0, 1): in single precision four a block, of the upper 24 bits of a word; in double precision two, of the
// upper 53 bits of two words, the first of them the lower half. Both are exact: no rounding, on any machine.
INLINE void uniforms(const Stream<uint32s>& stream, uint32s blocks, floats (&out)[4]) {
    uint32s c[4];
    stream.words(blocks, c);
    for (int i = 0; i < 4; i++) out[i] = __builtin_convertvector((int32s)(c[i] >> 8), floats) * 0x1p-24f;
}
INLINE void uniforms(const Stream<uint64s>& stream, uint64s blocks, doubles (&out)[2]) {
    // 2^52 with the bits of an integer below 2^52 in its mantissa is their sum
    const auto number = [](uint64s x) { return (doubles)(x | 0x4330000000000000u) - 0x1p52; };
    uint64s c[4];
    stream.words(blocks, c);
    for (int i = 0; i < 2; i++) {
        const uint64s low = c[2 * i] & 0xffffffffu, high = c[2 * i + 1] & 0xffffffffu;
        out[i] = number(high) * 0x1p-32 + number(low >> 11) * 0x1p-53;
    }
}
