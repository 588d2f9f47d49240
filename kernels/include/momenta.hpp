// Elements of the algebras of U(1), SU(2) and SU(N) in lanes: momenta of links, how they are drawn, and the steps they make.
#pragma once
#include "links.hpp"
#include "numbers.hpp"

// Anti-Hermitian matrices: re + i im above the diagonal, and i d on it.
template <int N> struct Momentum {
    static constexpr int PAIRS = N * (N - 1) / 2, NORMALS = N * N - 1, WIDTH = 2 * N * N;
    vec re[PAIRS], im[PAIRS], d[N];
    INLINE void to_record(vec (&tile)[WIDTH]) const {
        for (int i = 0, k = 0; i < N; i++) {
            tile[2 * (i * N + i)] = vec{}, tile[2 * (i * N + i) + 1] = d[i];
            for (int j = i + 1; j < N; j++, k++) {
                tile[2 * (i * N + j)] = re[k], tile[2 * (j * N + i)] = -re[k];
                tile[2 * (i * N + j) + 1] = tile[2 * (j * N + i) + 1] = im[k];
            }
        }
    }
};
template <> struct Momentum<2> {  // i (x, y, z) . sigma
    static constexpr int NORMALS = 3, WIDTH = 8;
    vec x, y, z;
    INLINE void to_record(vec (&m)[WIDTH]) const {
        m[0] = m[6] = vec{}, m[1] = z, m[7] = -z, m[2] = y, m[4] = -y, m[3] = m[5] = x;
    }
};
template <> struct Momentum<1> {
    static constexpr int NORMALS = 1, WIDTH = 1;
    vec angle;
    INLINE void to_record(vec (&tile)[WIDTH]) const { tile[0] = angle; }
};

// -tr X^2, or X^2 / 2 of an angle: half of the square of a momentum.
template <int N> INLINE vec energy(const Momentum<N>& p) {
    vec sum = {};
    for (int k = 0; k < p.PAIRS; k++) sum += 2 * (p.re[k] * p.re[k] + p.im[k] * p.im[k]);
    for (int i = 0; i < N; i++) sum += p.d[i] * p.d[i];
    return sum;
}
INLINE vec energy(const Momentum<2>& p) { return 2 * (p.x * p.x + p.y * p.y + p.z * p.z); }
INLINE vec energy(const Momentum<1>& p) { return real(0.5) * p.angle * p.angle; }

// From components of unit variance in an orthonormal basis.
template <int N> INLINE void compose(const vec* normal, Momentum<N>& p) {
    for (int k = 0; k < p.PAIRS; k++) p.re[k] = real(0.5) * normal[2 * k], p.im[k] = real(0.5) * normal[2 * k + 1];
    for (int i = 0; i < N; i++) p.d[i] = vec{};
    for (int k = 1; k < N; k++) {
        const vec share = normal[2 * p.PAIRS + k - 1] * real(1 / std::sqrt(2.0 * k * (k + 1)));
        for (int i = 0; i < k; i++) p.d[i] += share;
        p.d[k] -= real(k) * share;
    }
}
INLINE void compose(const vec* normal, Momentum<2>& p) {
    p.x = real(0.5) * normal[0], p.y = real(0.5) * normal[1], p.z = real(0.5) * normal[2];
}
INLINE void compose(const vec* normal, Momentum<1>& p) { p.angle = normal[0]; }

// Independent components, by the way of G. E. P. Box and M. E. Muller, Ann. Math. Statist. 29 (1958) 610.
template <int N> INLINE void draw(const Numbers& numbers, Momentum<N>& p) {
    constexpr int blocks = (Momentum<N>::NORMALS + 3) / 4;
    vec normal[4 * blocks];
    for (int b = 0; b < blocks; b++) {
        vec r[4];
        numbers(b, r);
        for (int k = 0; k < 4; k += 2) {
            vec sine, cosine;
            const vec radius = sqrt_(-2 * log_(1 - r[k]));
            sincos_(r[k + 1] * real(2 * PI), sine, cosine);
            normal[4 * b + k] = radius * cosine, normal[4 * b + k + 1] = radius * sine;
        }
    }
    compose(normal, p);
}

// p -= factor times the traceless anti-Hermitian part of m
template <int N> INLINE void kick(const Link<N>& m, vec factor, Momentum<N>& p) {
    vec trace = {};
    for (int i = 0; i < N; i++) trace += m.im[i][i];
    trace *= real(1.0 / N);
    const vec half = real(0.5) * factor;
    for (int i = 0, k = 0; i < N; i++) {
        p.d[i] -= factor * (m.im[i][i] - trace);
        for (int j = i + 1; j < N; j++, k++) {
            p.re[k] -= half * (m.re[i][j] - m.re[j][i]);
            p.im[k] -= half * (m.im[i][j] + m.im[j][i]);
        }
    }
}
INLINE void kick(const Link<2>& m, vec factor, Momentum<2>& p) {
    p.x -= factor * m.x, p.y -= factor * m.y, p.z -= factor * m.z;
}
INLINE void kick(const Link<1>& m, vec factor, Momentum<1>& p) { p.angle -= 2 * factor * m.im; }

// The halvings that bring lanes of this square of a norm to the largest one that a series serves; a lane that is not finite
// is left as it is.
struct Halvings {
    mask_of<vec> count = {};
    vec scale = splat<vec>(1);
    int steps = 0;
    Halvings(vec square, real largest) {
        for (;; steps++) {
            const auto large = (square > largest) & (square <= std::numeric_limits<real>::max());
            if (!any(large)) return;
            scale = select(large, scale * real(0.5), scale);
            square = select(large, square * real(0.25), square);
            count -= large;
        }
    }
    template <int N> INLINE void undo(Link<N>& e) const {
        for (int k = 0; k < steps; k++) {
            Link<N> squared;
            link_product<false, false, false>(e, e, squared);
            neaten(squared);
            choose(count > k, squared, e);
        }
    }
};

// exp(X) for larger N by its series, powers of X taken in groups of STEP.
template <int N> INLINE void exponential(const Momentum<N>& x, Link<N>& e) {
    constexpr int DEGREE = sizeof(real) == 4 ? 8 : 14, STEP = sizeof(real) == 4 ? 3 : 4;  // for |X| <= 1/2
    vec square = {};
    for (int k = 0; k < x.PAIRS; k++) square += 2 * (x.re[k] * x.re[k] + x.im[k] * x.im[k]);
    for (int i = 0; i < N; i++) square += x.d[i] * x.d[i];
    const Halvings halvings(square, 0.25);
    Link<N> power[STEP + 1], product;
    for (int i = 0, k = 0; i < N; i++) {
        power[1].re[i][i] = vec{}, power[1].im[i][i] = x.d[i] * halvings.scale;
        for (int j = i + 1; j < N; j++, k++) {
            power[1].re[i][j] = x.re[k] * halvings.scale, power[1].re[j][i] = -power[1].re[i][j];
            power[1].im[i][j] = power[1].im[j][i] = x.im[k] * halvings.scale;
        }
    }
    for (int k = 2; k <= STEP; k++) link_product<false, false, false>(power[k - 1], power[1], power[k]);
    double factorial[DEGREE + 1] = {1};
    for (int k = 1; k <= DEGREE; k++) factorial[k] = factorial[k - 1] * k;
    e = {};
    for (int first = DEGREE / STEP * STEP; first >= 0; first -= STEP) {
        if (first + STEP <= DEGREE) {
            link_product<false, false, false>(e, power[STEP], product);
            e = product;
        }
        for (int k = first; k < first + STEP && k <= DEGREE; k++) {
            const real share = 1 / factorial[k];
            for (int i = 0; i < N; i++)
                for (int j = 0; j < N; j++) {
                    if (k > first) {
                        e.re[i][j] += share * power[k - first].re[i][j];
                        e.im[i][j] += share * power[k - first].im[i][j];
                    } else if (i == j) e.re[i][j] += share;
                }
        }
    }
    halvings.undo(e);
}

// The sum of (-1)^m Q^2m / (2m + first)! as a + b Q + c Q^2, by Horner's rule, where Q^3 = c0 + c1 Q.
template <int first> INLINE void series(vec c0, vec c1, vec (&sum)[3]) {
    constexpr int DEGREE = sizeof(real) == 4 ? 8 : 14, TERMS = (DEGREE - first) / 2;  // for eigenvalues up to 1 / 2
    double share[TERMS + 1] = {1};
    for (int m = 1; m <= TERMS; m++) share[m] = -share[m - 1] / ((2 * m + first) * (2 * m + first - 1));
    sum[0] = splat<vec>(share[TERMS - 2]), sum[1] = real(share[TERMS]) * c0;
    sum[2] = real(share[TERMS - 1]) + real(share[TERMS]) * c1;
#pragma GCC unroll 10
    for (int m = TERMS - 3; m >= 0; m--) {
        const vec next = c0 * sum[2] + c1 * sum[1];
        sum[2] = sum[0] + c1 * sum[2], sum[0] = real(share[m]) + c0 * sum[1], sum[1] = next;
    }
}

// exp(i Q) of SU(3): powers of Q are a + b Q + c Q^2 by Q^3 = c1 Q + c0 (Cayley and Hamilton); see kernels/algebra_exp.
template <> INLINE void exponential<3>(const Momentum<3>& x, Link<3>& e) {
    const vec (&d)[3] = x.d, (&re)[3] = x.im;
    vec im[3];
    vec square = x.d[0] * x.d[0] + x.d[1] * x.d[1] + x.d[2] * x.d[2];
    for (int k = 0; k < 3; k++) square += 2 * (x.re[k] * x.re[k] + x.im[k] * x.im[k]), im[k] = -x.re[k];
    const Halvings halvings(square, 0.375);  // the largest eigenvalue is at most sqrt(2/3) of the norm
    const vec scale = halvings.scale, scale_2 = scale * scale, c1 = real(0.5) * square * scale_2;
    vec length[3];
    for (int k = 0; k < 3; k++) length[k] = re[k] * re[k] + im[k] * im[k];
    // Q01 Q12, whose product with Q20 enters the determinant
    const vec across_re = re[0] * re[2] - im[0] * im[2], across_im = re[0] * im[2] + im[0] * re[2];
    vec c0 = d[0] * (d[1] * d[2] - length[2]) - d[1] * length[1] - d[2] * length[0];
    c0 += 2 * (across_re * re[1] + across_im * im[1]);
    c0 *= scale * scale_2;
    vec s_re[3], s_im[3], s_d[3];  // Q^2
    s_d[0] = d[0] * d[0] + length[0] + length[1];
    s_d[1] = d[1] * d[1] + length[0] + length[2];
    s_d[2] = d[2] * d[2] + length[1] + length[2];
    s_re[0] = (d[0] + d[1]) * re[0] + re[1] * re[2] + im[1] * im[2];  // and Q02 Q21
    s_im[0] = (d[0] + d[1]) * im[0] + im[1] * re[2] - re[1] * im[2];
    s_re[1] = (d[0] + d[2]) * re[1] + across_re;
    s_im[1] = (d[0] + d[2]) * im[1] + across_im;
    s_re[2] = (d[1] + d[2]) * re[2] + re[0] * re[1] + im[0] * im[1];  // and Q10 Q02
    s_im[2] = (d[1] + d[2]) * im[2] + re[0] * im[1] - im[0] * re[1];
    vec even[3], odd[3];
    series<0>(c0, c1, even);
    series<1>(c0, c1, odd);
    const vec last = odd[2];
    odd[2] = odd[1], odd[1] = odd[0] + c1 * last, odd[0] = c0 * last;
    even[1] *= scale, odd[1] *= scale, even[2] *= scale_2, odd[2] *= scale_2;
    for (int i = 0, k = 0; i < 3; i++) {
        e.re[i][i] = even[0] + even[1] * d[i] + even[2] * s_d[i];
        e.im[i][i] = odd[0] + odd[1] * d[i] + odd[2] * s_d[i];
        for (int j = i + 1; j < 3; j++, k++) {
            // of the Hermitian matrices cos Q and sin Q
            const vec c_re = even[1] * re[k] + even[2] * s_re[k], c_im = even[1] * im[k] + even[2] * s_im[k];
            const vec i_re = odd[1] * re[k] + odd[2] * s_re[k], i_im = odd[1] * im[k] + odd[2] * s_im[k];
            e.re[i][j] = c_re - i_im, e.im[i][j] = c_im + i_re;
            e.re[j][i] = c_re + i_im, e.im[j][i] = i_re - c_im;
        }
    }
    halvings.undo(e);
}
template <> INLINE void exponential<2>(const Momentum<2>& x, Link<2>& e) {
    const vec square = x.x * x.x + x.y * x.y + x.z * x.z;
    const auto still = square < traits<vec>::tiny;
    const vec r = sqrt_(select(still, vec{}, square));
    vec sine;
    sincos_(r, sine, e.w);
    const vec share = select<vec>(still, splat<vec>(1), sine / select<vec>(still, splat<vec>(1), r));
    e.x = share * x.x, e.y = share * x.y, e.z = share * x.z;
}
template <> INLINE void exponential<1>(const Momentum<1>& x, Link<1>& e) { sincos_(x.angle, e.im, e.re); }

// exp(step p) u
template <int N> __attribute__((noinline)) void move(const Momentum<N>& p, real step, const Link<N>& u, Link<N>& out) {
    Momentum<N> x;
    Link<N> e;
    const vec* from = reinterpret_cast<const vec*>(&p);
    vec* to = reinterpret_cast<vec*>(&x);
    for (size_t k = 0; k < sizeof(p) / sizeof(vec); k++) to[k] = step * from[k];
    exponential<N>(x, e);
    link_product<false, false, false>(e, u, out);
}
