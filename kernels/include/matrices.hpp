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
    // equal eigenvalues: any frame serves
    const vec square = d * d + r;
    const auto still = square < splat<vec>(sizeof(real) == 4 ? 1e-30 : 1e-280);
    const vec h = square * reciprocal_sqrt(select(still, splat<vec>(1), square)), e = h + abs_(d);
    const vec k = reciprocal_sqrt(select(still, splat<vec>(1), 2 * h * e));
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

// Whether the larger of the Hermitian and the anti-Hermitian part of every 2 x 2 block is diagonal, to a bound relative to the largest
// element, or to a floor under that.
template <int N> INLINE auto diagonal_to(const Matrix<N>& a, double bound, double floor) {
    vec norm = splat<vec>(floor), off = {};
    for (int i = 0; i < N; i++) norm = max_(norm, a.re[i][i] * a.re[i][i] + a.im[i][i] * a.im[i][i]);
    for (int p = 0; p < N - 1; p++)
        for (int q = p + 1; q < N; q++) {
            const vec d_h = a.re[p][p] - a.re[q][q], d_a = a.im[p][p] - a.im[q][q];
            const vec re_h = a.re[p][q] + a.re[q][p], im_h = a.im[p][q] - a.im[q][p];
            const vec re_a = a.im[p][q] + a.im[q][p], im_a = a.re[q][p] - a.re[p][q];
            const vec r_h = re_h * re_h + im_h * im_h, r_a = re_a * re_a + im_a * im_a;
            off = max_(off, select(d_h * d_h + r_h > d_a * d_a + r_a, r_h, r_a));
        }
    return off <= norm * real(4 * bound * bound);
}

// The element exp(2 pi i k / N) of the centre that is nearest to w.
template <int N> struct Centre {
    vec re, im;
    mask_of<vec> k;
};

template <int N> INLINE Centre<N> nearest_centre(const Matrix<N>& w) {
    vec re = w.re[0][0], im = w.im[0][0];
    for (int i = 1; i < N; i++) re += w.re[i][i], im += w.im[i][i];
    Centre<N> z{splat<vec>(1), vec{}, mask_of<vec>{}};
    vec best = re;
    for (int k = 1; k < N; k++) {
        // exact where an axis is met
        const double c = 4 * k == N || 4 * k == 3 * N ? 0 : std::cos(2 * PI * k / N), s = 2 * k == N ? 0 : std::sin(2 * PI * k / N);
        const vec along = re * real(c) + im * real(s);
        const auto nearer = along > best;
        best = select(nearer, along, best);
        z.re = select(nearer, splat<vec>(c), z.re);
        z.im = select(nearer, splat<vec>(s), z.im);
        z.k = nearer ? mask_of<vec>{} + k : z.k;
    }
    return z;
}

// w = z v diag(exp(i phase)) v^dagger with z in the centre, phases sorted in [-pi, pi], v unitary. On return the diagonal
// of `rest` holds that of v^dagger (w - z) v. False where a matrix is too far from unitary to converge, or not finite.
template <int N> INLINE bool decompose(const Matrix<N>& w, Centre<N>& z, Matrix<N>& rest, Matrix<N>& v, vec (&phase)[N]) {
    // Of w - z rather than w: near the identity its anti-Hermitian part keeps the relative precision of the phases, and
    // near the other elements of the centre the rotations add nothing to the rounding of the input.
    z = nearest_centre(w);
    rest = w;
    for (int i = 0; i < N; i++) {
        rest.re[i][i] -= z.re;
        rest.im[i][i] -= z.im;
        for (int j = 0; j < N; j++) v.re[i][j] = splat<vec>(i == j), v.im[i][j] = vec{};
    }
    // As far as rounding lets it go; what a few more sweeps leave is good enough if it is small.
    constexpr double eps = traits<vec>::eps, tight = 2 * eps, loose = 64 * N * eps;
    bool converged = false;
    for (int sweep = 0; sweep < 24 && !converged; sweep++) {
        for (int p = 0; p < N - 1; p++)
            for (int q = p + 1; q < N; q++) jacobi_rotation(rest, v, p, q);
        // ~ so that NaN counts as not converged
        converged = !any(~(sweep < 8 ? diagonal_to(rest, tight, 0) : diagonal_to(rest, loose, 1)));
    }
    for (int k = 0; k < N; k++) {
        const vec re = rest.re[k][k], im = rest.im[k][k];
        phase[k] = atan2_(im * z.re - re * z.im, 1 + (re * z.re + im * z.im));
    }
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
