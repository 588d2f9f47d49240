// The frame of eigenvectors of a unitary matrix W, and what a spectral map does in it: g = v diag(exp(i shift)) v^dagger,
// and the gradient of W from that of g. The maths is in kernels/spectral_flow/README.md.
#pragma once
#include "unitary.hpp"
#include "phases.hpp"

template <int N> struct Frame {
    Matrix<N> v, rest;  // the diagonal of `rest` is that of v^dagger (W / z - 1) v
    Centre<N> z;
    vec phase[N];        // sorted, relative to z
    vec re[N], im[N];    // exp(i shift / 2)

    // False where a matrix is too far from unitary, or not finite.
    INLINE bool of(const Matrix<N>& w) {
        const bool normal = decompose(w, z, rest, v, phase);
        vec off = {};
        for (int k = 0; k < N; k++) {
            const vec a = 1 + rest.re[k][k], b = rest.im[k][k];
            off = max_(off, abs_(a * a + b * b - 1));
        }
        return normal && !any(~(off < splat<vec>(1e-2)));
    }

    // How many vectors it takes to keep a frame, and how it is kept: as it lies in registers.
    static constexpr int SIZE_KEPT = 2 * N * N + 3 * N + 3;
    template <class F> INLINE void each(F f) {
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j++) f(v.re[i][j]), f(v.im[i][j]);
            f(rest.re[i][i]), f(rest.im[i][i]), f(phase[i]);
        }
        f(z.re), f(z.im), f((vec&)z.k);
    }
    INLINE void keep(real* p) {
        each([&](vec& x) { store(p, x), p += L; });
    }
    INLINE void restore(const real* p) {
        each([&](vec& x) { x = load<vec>(p), p += L; });
    }

    INLINE void set_shift(const vec (&shift)[N]) {
        for (int k = 0; k < N; k++) sincos_(shift[k] * real(0.5), im[k], re[k]);
    }

    INLINE void displacement(Matrix<N>& g) {
        // the rounding of many rotations would show in float32
        if (sizeof(real) == 4) orthonormalise(v);
        vec c[N], s[N];
        for (int k = 0; k < N; k++) c[k] = re[k] * re[k] - im[k] * im[k], s[k] = 2 * re[k] * im[k];
        rebuild(v, c, s, g);
    }

    // The gradient of the shifts from that of g, which is left in the frame.
    INLINE void along_shift(Matrix<N>& grad, vec (&g_shift)[N]) const {
        Matrix<N> product;
        multiply(grad, v, product);
        multiply<N, true>(v, product, grad);
        for (int k = 0; k < N; k++) {
            const vec c = re[k] * re[k] - im[k] * im[k], s = 2 * re[k] * im[k];
            g_shift[k] = grad.im[k][k] * c - grad.re[k][k] * s;
        }
    }

    // The gradient of W from that of the phases and of g in the frame, in whose place it is put.
    template <class P> INLINE void along_w(const P& phases, const vec (&g_phase)[N], Matrix<N>& grad) const {
        // How the frame turns with W: divided differences, as ratios of sines.
        for (int i = 0, p = 0; i < N; i++)
            for (int j = i + 1; j < N; j++, p++) {
                const vec new_cosine =
                    select(phases.between[p] == phases.new_between[p], phases.new_cosine[p], -phases.new_cosine[p]);
                const vec ratio = phases.new_sine[p] * phases.cosine[p] * reciprocal(phases.sine[p]) - new_cosine;
                const vec step_im = select(phases.between[p], phases.sine[p], -phases.sine[p]);
                const vec mean_re = re[i] * re[j] - im[i] * im[j], mean_im = re[i] * im[j] + im[i] * re[j];
                const vec a = ratio * phases.cosine[p], b = ratio * step_im;
                // ratio exp(i (step - mean)), ratio exp(i (-step - mean))
                const vec up_re = a * mean_re + b * mean_im, up_im = b * mean_re - a * mean_im;
                const vec down_re = a * mean_re - b * mean_im, down_im = -b * mean_re - a * mean_im;
                const vec x_re = up_re * grad.re[i][j] - up_im * grad.im[i][j];
                const vec x_im = up_re * grad.im[i][j] + up_im * grad.re[i][j];
                const vec y_re = down_re * grad.re[j][i] - down_im * grad.im[j][i];
                const vec y_im = down_re * grad.im[j][i] + down_im * grad.re[j][i];
                grad.re[i][j] = real(0.5) * (x_re - y_re);
                grad.im[i][j] = real(0.5) * (x_im + y_im);
                grad.re[j][i] = -grad.re[i][j];
                grad.im[j][i] = grad.im[i][j];
            }
        for (int k = 0; k < N; k++) grad.re[k][k] = vec{}, grad.im[k][k] = g_phase[k];
        // W v = z v (1 + rest)
        for (int i = 0; i < N; i++) {
            const vec e_re = 1 + rest.re[i][i], e_im = rest.im[i][i];
            const vec c = e_re * z.re - e_im * z.im, s = e_re * z.im + e_im * z.re;
            for (int j = 0; j < N; j++) {
                const vec x = grad.re[i][j], y = grad.im[i][j];
                grad.re[i][j] = c * x - s * y;
                grad.im[i][j] = c * y + s * x;
            }
        }
        Matrix<N> product;
        multiply(v, grad, product);
        multiply<N, false, true>(product, v, grad);
    }
};

// SU(2) as quaternions: W = cosine + i sine n.sigma, n a unit vector, and phases -theta, theta. No eigenvectors are needed.
template <> struct Frame<2> {
    Centre<2> z;
    vec phase[2];
    vec cosine, sine, n[3], c, s;  // of theta, and of its shift

    INLINE bool of(const Matrix<2>& w) {
        const real half = 0.5;
        quaternion(w, cosine, n);
        cosine *= half;
        vec square = splat<vec>(half * half * smallest_gap<2>(vec{}) * smallest_gap<2>(vec{}));
        for (vec& x : n) x *= half, square += x * x;
        const vec per = reciprocal_sqrt(square);
        sine = square * per;
        for (vec& x : n) x *= per;
        const auto far = cosine < 0;
        z.k = far ? mask_of<vec>{} + 1 : mask_of<vec>{};
        phase[1] = atan2_(sine, abs_(cosine));
        phase[1] = select(far, -phase[1], phase[1]);  // of -W, whose eigenvalue belongs to n
        flip();
        // what is not of this form, and its length
        const vec off = abs_(w.re[0][0] - w.re[1][1]) + abs_(w.im[0][0] + w.im[1][1]) + abs_(w.re[0][1] + w.re[1][0]) +
                        abs_(w.im[0][1] - w.im[1][0]) + abs_(cosine * cosine + square - 1);
        return !any(~(off < splat<vec>(1e-2)));
    }

    // n and the phases such that phase[0] < phase[1]
    INLINE void flip() {
        const auto down = phase[1] < 0;
        for (vec& x : n) x = select(down, -x, x);
        sine = select(down, -sine, sine);
        phase[1] = abs_(phase[1]);
        phase[0] = -phase[1];
    }

    static constexpr int SIZE_KEPT = 0;  // quicker computed again
    INLINE void keep(real*) {}
    INLINE void restore(const real*) {}

    INLINE void set_shift(const vec (&shift)[2]) { sincos_(shift[1], s, c); }

    INLINE void displacement(Matrix<2>& g) {
        const vec vector[3] = {s * n[0], s * n[1], s * n[2]};
        compose(c, vector, g);
    }

    INLINE void along_shift(Matrix<2>& grad, vec (&g_shift)[2]) {
        quaternion(grad, scalar, vector);
        along = n[0] * vector[0] + n[1] * vector[1] + n[2] * vector[2];
        g_shift[1] = real(0.5) * (c * along - s * scalar);
        g_shift[0] = -g_shift[1];
    }

    // W turns with exp(i y.sigma) into one of theta + n.y, and n turns with the rest of y.
    template <class P> INLINE void along_w(const P&, const vec (&g_phase)[2], Matrix<2>& grad) const {
        const real half = 0.5;
        const vec g_theta = g_phase[1] - g_phase[0], ratio = s * reciprocal(sine) * cosine;
        vec x[3];
        for (int i = 0; i < 3; i++) {
            const int j = (i + 1) % 3, k = (i + 2) % 3;
            const vec cross = vector[j] * n[k] - vector[k] * n[j];
            x[i] = half * (g_theta * n[i] + ratio * (vector[i] - along * n[i]) - s * cross);
        }
        const vec dot = n[0] * x[0] + n[1] * x[1] + n[2] * x[2];
        vec out[3];
        for (int i = 0; i < 3; i++) {
            const int j = (i + 1) % 3, k = (i + 2) % 3;
            out[i] = cosine * x[i] - sine * (n[j] * x[k] - n[k] * x[j]);
        }
        compose(-sine * dot, out, grad);
    }

   private:
    vec scalar, vector[3], along;  // of the gradient of g
};
