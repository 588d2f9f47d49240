// Products with additions of vectors that depend on nothing: the most that a core can do. Operations in so many rounds.
#include "lanes.hpp"

extern "C" double peak(long rounds) {
    constexpr int CHAINS = 10;
    vec sums[CHAINS];
    for (int k = 0; k < CHAINS; k++) sums[k] = splat<vec>(k);
    const vec factor = splat<vec>(0.999), addend = splat<vec>(1e-3);
    for (long i = 0; i < rounds; i++)
#pragma GCC unroll 10
        for (int k = 0; k < CHAINS; k++) sums[k] = sums[k] * factor + addend;
    vec total = {};
    for (int k = 0; k < CHAINS; k++) total += sums[k];
    return total[0] > 0 ? 2.0 * CHAINS * L * rounds : 0;
}
