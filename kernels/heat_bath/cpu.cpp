// heat_bath and over_relaxation of SU(N) for CPUs: a block of matrices at a time, one a lane.
#include "parameters.hpp"
#include "subgroups.hpp"

constexpr int N = SIZE, WIDTH = 2 * N * N, PAIRS = N * (N - 1) / 2;

namespace {

// Every SU(2) subgroup in turn takes U to a U, where move(length, direction, pair, a) says so: Re tr(a U S) is, but for
// what a does not change, length Re tr(a direction).
template <class Move> INLINE void pass(const real* elements, const real* staples, int count, real* out, Move move) {
    Matrix<N> u, s, product;
    load_matrices(elements, count, u);
    load_matrices(staples, count, s);
    multiply(u, s, product);
    mask_of<vec> moved = {};
    int pair = 0;
    for (int p = 0; p < N - 1; p++)
        for (int q = p + 1; q < N; q++, pair++) {
            Quaternion direction, a;
            const vec length = part(product, p, q, direction);
            moved |= move(length, direction, pair, a);
            turn(u, p, q, a);
            if (pair + 1 < PAIRS) turn(product, p, q, a);
        }
    restore(u);
    load_matrices(elements, count, product);
    choose(moved, u, product);
    store_matrices(out, count, product);
}

}  // namespace

extern "C" int64_t heat_bath(const real* elements, const real* staples, const double* strength, const real* uniforms,
                             int64_t attempts, int64_t total, real* out, int64_t threads) {
    return for_blocks(total, threads, [=](int64_t m, int count) {
        const int64_t stride = PAIRS * attempts * 4;
        pass(elements + m * WIDTH, staples + m * WIDTH, count, out + m * WIDTH,
             [=](vec length, const Quaternion& direction, int pair, Quaternion& a) {
                 const vec k = length * real(2 * *strength);
                 Quaternion b = direction;  // where nothing is accepted a is 1, or NaN where k is
                 const auto drawn = draw(
                     k, attempts,
                     [=](int i, vec (&r)[4]) {
                         load_tile(uniforms + m * stride + (pair * attempts + i) * 4, stride, 4, count, r);
                     },
                     b);
                 a = divide(b, direction);
                 return drawn;
             });
        return true;
    });
}

extern "C" int64_t over_relaxation(const real* elements, const real* staples, int64_t total, real* out,
                                   int64_t threads) {
    return for_blocks(total, threads, [=](int64_t m, int count) {
        pass(elements + m * WIDTH, staples + m * WIDTH, count, out + m * WIDTH,
             [](vec, const Quaternion& v, int, Quaternion& a) {
                 const vec twice = -2 * v.w;
                 a = {v.w * v.w - v.x * v.x - v.y * v.y - v.z * v.z, twice * v.x, twice * v.y, twice * v.z};
                 return ~mask_of<vec>{};
             });
        return true;
    });
}
