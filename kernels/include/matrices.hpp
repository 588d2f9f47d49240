// N x N complex matrices on lanes, and the decomposition of unitary ones.
#pragma once
#include "elementary.hpp"

template <int N> struct Matrix {
    vec re[N][N], im[N][N];
};

// Consecutive matrices in memory, row by row, real and imaginary parts alternating.
template <int N> INLINE void load_matrices(const real* p, int count, Matrix<N>& m) {
    vec tile[2 * N * N];
    load_tile(p, 2 * N * N, 2 * N * N, count, tile);
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
    store_tile(p, 2 * N * N, 2 * N * N, count, tile);
}

// c = a b, with either or both adjoint
template <int N, bool adjoint_a = false, bool adjoint_b = false>
INLINE void multiply(const Matrix<N>& a, const Matrix<N>& b, Matrix<N>& c) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            vec re = {}, im = {};
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

// One Jacobi rotation of rows and columns p, q of a normal matrix a, and of the columns of v. A normal 2 x 2 block is a
// multiple of 1 plus a phase times a Hermitian matrix: its Hermitian and anti-Hermitian parts have the same
// eigenvectors, and the larger of the two gives them.
template <int N> INLINE void jacobi_rotation(Matrix<N>& a, Matrix<N>& v, int p, int q) {
    const real half = 0.5;
    const vec d_h = half * (a.re[p][p] - a.re[q][q]), d_a = half * (a.im[p][p] - a.im[q][q]);
    const vec re_h = half * (a.re[p][q] + a.re[q][p]), im_h = half * (a.im[p][q] - a.im[q][p]);
    const vec re_a = half * (a.im[p][q] + a.im[q][p]), im_a = half * (a.re[q][p] - a.re[p][q]);
    const vec r_h = re_h * re_h + im_h * im_h, r_a = re_a * re_a + im_a * im_a;
    const auto hermitian = d_h * d_h + r_h > d_a * d_a + r_a;
    const vec d = select(hermitian, d_h, d_a), re = select(hermitian, re_h, re_a), im = select(hermitian, im_h, im_a);
    const vec r = select(hermitian, r_h, r_a);
    const vec h = sqrt_(d * d + r), e = h + abs_(d), square = 2 * h * e;
    // equal eigenvalues: any frame serves
    const auto still = square < splat<vec>(sizeof(real) == 4 ? 1e-30 : 1e-280);
    const vec k = 1 / sqrt_(select(still, splat<vec>(1), square));
    const vec c = select(still, splat<vec>(1), e * k), size = select(still, vec{}, copysign_(k, d));
    const vec s_re = size * re, s_im = size * im;
    for (int i = 0; i < N; i++) {
        vec pr = a.re[i][p], pi = a.im[i][p], qr = a.re[i][q], qi = a.im[i][q];
        a.re[i][p] = c * pr + s_re * qr + s_im * qi;
        a.im[i][p] = c * pi + s_re * qi - s_im * qr;
        a.re[i][q] = c * qr - s_re * pr + s_im * pi;
        a.im[i][q] = c * qi - s_re * pi - s_im * pr;
        pr = v.re[i][p], pi = v.im[i][p], qr = v.re[i][q], qi = v.im[i][q];
        v.re[i][p] = c * pr + s_re * qr + s_im * qi;
        v.im[i][p] = c * pi + s_re * qi - s_im * qr;
        v.re[i][q] = c * qr - s_re * pr + s_im * pi;
        v.im[i][q] = c * qi - s_re * pi - s_im * pr;
    }
    for (int i = 0; i < N; i++) {
        const vec pr = a.re[p][i], pi = a.im[p][i], qr = a.re[q][i], qi = a.im[q][i];
        a.re[p][i] = c * pr + s_re * qr - s_im * qi;
        a.im[p][i] = c * pi + s_re * qi + s_im * qr;
        a.re[q][i] = c * qr - s_re * pr - s_im * pi;
        a.im[q][i] = c * qi - s_re * pi + s_im * pr;
    }
}

template <int N> INLINE vec off_diagonal(const Matrix<N>& a) {
    vec off = {};
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            if (i != j) off = max_(off, a.re[i][j] * a.re[i][j] + a.im[i][j] * a.im[i][j]);
    return off;
}

// w = v diag(exp(i phase)) v^dagger, phases sorted in [-pi, pi], v unitary. On return `rest` holds v^dagger (w - 1) v.
// False where a matrix is too far from unitary to converge, or not finite.
template <int N> INLINE bool decompose(const Matrix<N>& w, Matrix<N>& rest, Matrix<N>& v, vec (&phase)[N]) {
    // Of w - 1 rather than w: near the identity its anti-Hermitian part keeps the relative precision of the phases.
    rest = w;
    for (int i = 0; i < N; i++) {
        rest.re[i][i] -= 1;
        for (int j = 0; j < N; j++) v.re[i][j] = splat<vec>(i == j), v.im[i][j] = vec{};
    }
    // As far as rounding lets it go; what a few more sweeps leave is good enough if it is small.
    constexpr double eps = traits<vec>::eps, tight = 2 * N * eps, loose = 64 * N * eps;
    bool converged = false;
    for (int sweep = 0; sweep < 24 && !converged; sweep++) {
        for (int p = 0; p < N - 1; p++)
            for (int q = p + 1; q < N; q++) jacobi_rotation(rest, v, p, q);
        const double bound = sweep < 8 ? tight : loose;
        // ~ so that NaN counts as not converged
        converged = !any(~(off_diagonal(rest) <= splat<vec>(bound * bound)));
    }
    for (int k = 0; k < N; k++) phase[k] = atan2_(rest.im[k][k], 1 + rest.re[k][k]);
    for (int last = N - 1; last > 0; last--)
        for (int k = 0; k < last; k++) {
            const auto swap = phase[k] > phase[k + 1];
            auto exchange = [&](vec& a, vec& b) {
                const vec low = select(swap, b, a);
                b = select(swap, a, b);
                a = low;
            };
            exchange(phase[k], phase[k + 1]);
            exchange(rest.re[k][k], rest.re[k + 1][k + 1]);
            exchange(rest.im[k][k], rest.im[k + 1][k + 1]);
            for (int i = 0; i < N; i++) {
                exchange(v.re[i][k], v.re[i][k + 1]);
                exchange(v.im[i][k], v.im[i][k + 1]);
            }
        }
    return converged;
}
