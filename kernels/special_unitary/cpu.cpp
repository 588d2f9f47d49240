// special_unitary for CPUs: columns made orthonormal by Gram's and Schmidt's way, one matrix a lane.
#include "parameters.hpp"
#include "subgroups.hpp"

constexpr int N = SIZE, WIDTH = 2 * N * N;

extern "C" int64_t special_unitary(const real* m, int64_t total, real* out, int64_t threads) {
    return for_blocks(total, threads, [=](int64_t first, int count) {
        Matrix<N> given, rows;
        load_matrices(m + first * WIDTH, count, given);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) rows.re[i][j] = given.re[j][i], rows.im[i][j] = given.im[j][i];
        for (int time = 0; time < 2; time++) restore(rows);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) given.re[i][j] = rows.re[j][i], given.im[i][j] = rows.im[j][i];
        store_matrices(out + first * WIDTH, count, given);
        return true;
    });
}
