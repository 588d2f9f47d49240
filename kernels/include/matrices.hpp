// N x N complex matrices on lanes.
#pragma once
#include "tiles.hpp"

template <int N> struct Matrix {
    vec re[N][N], im[N][N];
};

// In memory matrices lie row by row, real and imaginary parts alternating.
template <int N> INLINE void from_tile(const vec (&tile)[2 * N * N], Matrix<N>& m) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) m.re[i][j] = tile[2 * (i * N + j)], m.im[i][j] = tile[2 * (i * N + j) + 1];
}
template <int N> INLINE void to_tile(const Matrix<N>& m, vec (&tile)[2 * N * N]) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) tile[2 * (i * N + j)] = m.re[i][j], tile[2 * (i * N + j) + 1] = m.im[i][j];
}

// Consecutive matrices in memory.
template <int N> INLINE void load_matrices(const real* p, int count, Matrix<N>& m) {
    vec tile[2 * N * N];
    load_tile<2 * N * N>(p, count, tile);
    from_tile(tile, m);
}
template <int N> INLINE void store_matrices(real* p, int count, const Matrix<N>& m) {
    vec tile[2 * N * N];
    to_tile(m, tile);
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

// v diag(c), and v diag(c) v^dagger
template <int N> INLINE void scale_columns(const Matrix<N>& v, const vec (&re)[N], const vec (&im)[N], Matrix<N>& out) {
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++) {
            out.re[i][k] = v.re[i][k] * re[k] - v.im[i][k] * im[k];
            out.im[i][k] = v.re[i][k] * im[k] + v.im[i][k] * re[k];
        }
}

template <int N> INLINE void rebuild(const Matrix<N>& v, const vec (&re)[N], const vec (&im)[N], Matrix<N>& out) {
    Matrix<N> scaled;
    scale_columns(v, re, im, scaled);
    multiply<N, false, true>(scaled, v, out);
}

// Twice what a 2 x 2 matrix has of 1 and of i sigma, and one + i v.sigma.
INLINE void quaternion(const Matrix<2>& m, vec& one, vec (&v)[3]) {
    one = m.re[0][0] + m.re[1][1];
    v[0] = m.im[0][1] + m.im[1][0];
    v[1] = m.re[0][1] - m.re[1][0];
    v[2] = m.im[0][0] - m.im[1][1];
}
INLINE void compose(vec one, const vec (&v)[3], Matrix<2>& m) {
    m.re[0][0] = m.re[1][1] = one;
    m.im[0][0] = v[2], m.im[1][1] = -v[2];
    m.re[0][1] = v[1], m.re[1][0] = -v[1];
    m.im[0][1] = m.im[1][0] = v[0];
}
