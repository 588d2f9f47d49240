// algebra_exp of SU(2) and SU(3) for CPUs: a block of matrices at a time, one a lane.
#include "parameters.hpp"

#if SIZE == 2
#include "exponential_su2.hpp"
using namespace su2;
#else
#include "exponential_su3.hpp"
using namespace su3;
#endif

constexpr int WIDTH = 2 * SIZE * SIZE;

extern "C" int64_t algebra_exp(const real* x, int64_t total, real* out, int64_t threads) {
    return for_blocks(total, threads, [=] {
        return [=](int64_t m, int count) {
            exponential(x + m * WIDTH, count, out + m * WIDTH);
            return 0;
        };
    });
}

extern "C" int64_t algebra_exp_backward(const real* x, const real* grad, int64_t total, real* out, int64_t threads) {
    return for_blocks(total, threads, [=] {
        return [=](int64_t m, int count) {
            gradient(x + m * WIDTH, grad + m * WIDTH, count, out + m * WIDTH);
            return 0;
        };
    });
}
