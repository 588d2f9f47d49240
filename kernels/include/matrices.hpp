// N x N complex matrices on lanes.
#pragma once
#include "tiles.hpp"

template <int N> struct Matrix {
    vec re[N][N], im[N][N];
};

// Consecutive matrices in memory, row by row, real and imaginary parts alternating.
template <int N> INLINE void load_matrices(const real* p, int count, Matrix<N>& m) {
    vec tile[2 * N * N];
    load_tile<2 * N * N>(p, count, tile);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            m.re[i][j] = tile[2 * (i * N + j)];
            m.im[i][j] = tile[2 * (i * N + j) + 1];
        }
}
template <int N> INLINE void store_matrices(real* p, int count, const Matrix<N>& m) {
    vec tile[2 * N * N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            tile[2 * (i * N + j)] = m.re[i][j];
            tile[2 * (i * N + j) + 1] = m.im[i][j];
        }
    store_tile<2 * N * N>(p, count, tile);
}

// m becomes `chosen` in the lanes of the mask
template <int N> INLINE void choose(mask_of<vec> mask, const Matrix<N>& chosen, Matrix<N>& m) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            m.re[i][j] = select(mask, chosen.re[i][j], m.re[i][j]);
            m.im[i][j] = select(mask, chosen.im[i][j], m.im[i][j]);
        }
}

// c = a b, or c + a b, with either or both adjoint
template <int N, bool adjoint_a = false, bool adjoint_b = false, bool add = false>
INLINE void multiply(const Matrix<N>& a, const Matrix<N>& b, Matrix<N>& c) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            vec re = add ? c.re[i][j] : vec{}, im = add ? c.im[i][j] : vec{};
            for (int k = 0; k < N; k++) {
                const vec ar = adjoint_a ? a.re[k][i] : a.re[i][k], ai = adjoint_a ? -a.im[k][i] : a.im[i][k];
                const vec br = adjoint_b ? b.re[j][k] : b.re[k][j], bi = adjoint_b ? -b.im[j][k] : b.im[k][j];
                re += ar * br - ai * bi;
                im += ar * bi + ai * br;
            }
            c.re[i][j] = re;
            c.im[i][j] = im;
        }
}

// One Newton step towards the nearest unitary matrix, v (3 - v^dagger v) / 2: takes the rounding of many rotations away.
template <int N> INLINE void orthonormalise(Matrix<N>& v) {
    Matrix<N> square, product;
    multiply<N, true>(v, v, square);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            square.re[i][j] = real(0.5) * (real(i == j ? 3 : 0) - square.re[i][j]);
            square.im[i][j] *= real(-0.5);
        }
    multiply(v, square, product);
    v = product;
}
