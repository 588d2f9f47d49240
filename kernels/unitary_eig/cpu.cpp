// unitary_eig for CPUs: a block of matrices at a time, one a lane.
#include "parameters.hpp"
#include "unitary.hpp"

constexpr int N = SIZE, WIDTH = 2 * N * N;

// Returns the number of blocks with a matrix that is not finite or not unitary.
extern "C" int64_t unitary_eig(const real* w, int64_t total, real* phases, real* frame, int64_t threads) {
    return for_blocks(total, threads, [=](int64_t m, int count) {
        Matrix<N> matrix, rest, v;
        Centre<N> z;
        vec phase[N];
        load_matrices(w + m * WIDTH, count, matrix);
        const bool ok = nearly_unitary(matrix) && decompose(matrix, z, rest, v, phase);
        const vec turn = real(2 * PI / N) * __builtin_convertvector(z.k, vec);
        for (int k = 0; k < N; k++) {
            phase[k] += turn;
            phase[k] = select(phase[k] > real(PI), phase[k] - real(2 * PI), phase[k]);
        }
        if (N > 2) orthonormalise(v);
        store_tile(phases + m * N, N, N, count, phase);
        store_matrices(frame + m * WIDTH, count, v);
        return ok;
    });
}
