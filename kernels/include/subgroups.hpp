// What a heat bath and over-relaxation do in SU(2) subgroups of SU(N). The maths is in kernels/heat_bath/README.md.
#pragma once
#include "elementary.hpp"
#include "matrices.hpp"

constexpr double SMALL = 1.3;  // where the two ways of drawing are accepted equally often

// w + i (x, y, z) . sigma
struct Quaternion {
    vec w, x, y, z;
};

INLINE Quaternion pick(mask_of<vec> m, const Quaternion& a, const Quaternion& b) {
    return {select(m, a.w, b.w), select(m, a.x, b.x), select(m, a.y, b.y), select(m, a.z, b.z)};
}

// a b^dagger
INLINE Quaternion divide(const Quaternion& a, const Quaternion& b) {
    return {a.w * b.w + a.x * b.x + a.y * b.y + a.z * b.z, a.x * b.w - a.w * b.x + a.y * b.z - a.z * b.y,
            a.y * b.w - a.w * b.y + a.z * b.x - a.x * b.z, a.z * b.w - a.w * b.z + a.x * b.y - a.y * b.x};
}

// Twice what rows and columns p, q of m have of SU(2).
template <int N> INLINE Quaternion block(const Matrix<N>& m, int p, int q) {
    return {m.re[p][p] + m.re[q][q], m.im[p][q] + m.im[q][p], m.re[p][q] - m.re[q][p], m.im[p][p] - m.im[q][q]};
}

// Its length and direction; where there is nothing, 0 and 1.
template <int N> INLINE vec part(const Matrix<N>& m, int p, int q, Quaternion& v) {
    v = block(m, p, q);
    const vec square = v.w * v.w + v.x * v.x + v.y * v.y + v.z * v.z, one = splat<vec>(1);
    const auto still = square < traits<vec>::tiny;
    const vec inverse = reciprocal_sqrt(select<vec>(still, one, square));
    v = pick(still, {one, vec{}, vec{}, vec{}}, {v.w * inverse, v.x * inverse, v.y * inverse, v.z * inverse});
    return select<vec>(still, vec{}, real(0.5) * square * inverse);
}

// Rows p and q of m times an element of SU(2).
template <int N> INLINE void turn(Matrix<N>& m, int p, int q, const Quaternion& a) {
    for (int j = 0; j < N; j++) {
        const vec pr = m.re[p][j], pi = m.im[p][j], qr = m.re[q][j], qi = m.im[q][j];
        m.re[p][j] = a.w * pr - a.z * pi + a.y * qr - a.x * qi;
        m.im[p][j] = a.w * pi + a.z * pr + a.y * qi + a.x * qr;
        m.re[q][j] = a.w * qr + a.z * qi - a.y * pr - a.x * pi;
        m.im[q][j] = a.w * qi - a.z * qr - a.y * pi + a.x * pr;
    }
}

// Four uniform numbers -> b of SU(2) from the density exp(k b.w), and whether it is accepted. For small k from Haar's,
// with b and -b as one proposal.
INLINE mask_of<vec> try_small(const vec (&r)[4], vec k, Quaternion& b) {
    vec s1, c1, s2, c2;
    sincos_(r[1] * real(2 * PI), s1, c1);
    sincos_(r[2] * real(2 * PI), s2, c2);
    const vec one = sqrt_(r[0]), two = sqrt_(1 - r[0]);
    b = {one * c1, one * s1, two * c2, two * s2};
    const vec scale = 1 / (1 + exp2_(k * real(-2 * LOG2_E)));
    const vec plus = scale * exp2_(k * (b.w - 1) * real(LOG2_E)), minus = scale * exp2_(k * (-1 - b.w) * real(LOG2_E));
    b = pick(r[3] < plus, b, {-b.w, -b.x, -b.y, -b.z});
    return r[3] < plus + minus;
}

// The way of Kennedy and Pendleton. What is accepted leaves r[3] uniform up to sqrt(1 - t): it becomes an angle.
INLINE mask_of<vec> try_large(const vec (&r)[4], vec k, Quaternion& b) {
    vec sine, cosine;
    const vec scale = 1 / (2 * max_(k, splat<vec>(SMALL)));
    const vec across = -log_(1 - r[0]) * scale;
    sincos_(r[1] * real(2 * PI), sine, cosine);
    const vec along = cosine * sqrt_(-log_(1 - r[2]) * scale);
    const vec t = across + along * along, rest = 1 - t;
    const auto accepted = r[3] * r[3] < rest;
    const vec root = sqrt_(select<vec>(accepted, rest, splat<vec>(1)));
    sincos_(r[3] * real(2 * PI) / root, sine, cosine);
    const vec radius = 2 * root * sqrt_(across);
    b = {1 - 2 * t, radius * cosine, radius * sine, 2 * root * along};
    return accepted;
}

// b of SU(2) from the density exp(k b.w), in at most so many attempts, for which numbers(attempt, r) gives four uniform
// numbers; where none is accepted b stays. The lanes in which one is, or in which k is not a number.
template <class Numbers> INLINE mask_of<vec> draw(vec k, int attempts, Numbers numbers, Quaternion& b) {
    const auto small = k < real(SMALL);
    const bool some_small = any(small), some_large = any(~small);
    mask_of<vec> waiting = k == k;
    for (int i = 0; i < attempts && any(waiting); i++) {
        vec r[4];
        Quaternion next = b, other;
        mask_of<vec> accepted = {};
        numbers(i, r);
        if (some_large) accepted = try_large(r, k, next) & ~small;
        if (some_small) {
            accepted |= try_small(r, k, other) & small;
            next = pick(small, other, next);
        }
        b = pick(accepted & waiting, next, b);
        waiting &= ~accepted;
    }
    return ~waiting;
}

// The last row of SU(3) from the others.
INLINE void complete(Matrix<3>& m) {
    const auto &re = m.re, &im = m.im;
    for (int k = 0; k < 3; k++) {
        const int a = (k + 1) % 3, b = (k + 2) % 3;
        m.re[2][k] = re[0][a] * re[1][b] - im[0][a] * im[1][b] - re[0][b] * re[1][a] + im[0][b] * im[1][a];
        m.im[2][k] = re[0][b] * im[1][a] + im[0][b] * re[1][a] - re[0][a] * im[1][b] - im[0][a] * re[1][b];
    }
}

// Orthonormal rows of determinant 1: the last of two or three follows from the others, of more it is given a phase.
template <int N> INLINE void restore(Matrix<N>& m) {
    for (int i = 0; i < (N <= 3 ? N - 1 : N); i++) {
        for (int j = 0; j < i; j++) {
            vec re = {}, im = {};
            for (int k = 0; k < N; k++) {
                re += m.re[j][k] * m.re[i][k] + m.im[j][k] * m.im[i][k];
                im += m.re[j][k] * m.im[i][k] - m.im[j][k] * m.re[i][k];
            }
            for (int k = 0; k < N; k++) {
                m.re[i][k] -= re * m.re[j][k] - im * m.im[j][k];
                m.im[i][k] -= re * m.im[j][k] + im * m.re[j][k];
            }
        }
        vec square = {};
        for (int k = 0; k < N; k++) square += m.re[i][k] * m.re[i][k] + m.im[i][k] * m.im[i][k];
        const vec inverse = 1 / sqrt_(square);
        for (int k = 0; k < N; k++) m.re[i][k] *= inverse, m.im[i][k] *= inverse;
    }
    if constexpr (N == 2) {
        m.re[1][0] = -m.re[0][1], m.im[1][0] = m.im[0][1];
        m.re[1][1] = m.re[0][0], m.im[1][1] = -m.im[0][0];
    } else if constexpr (N == 3) {
        complete(m);
    } else {
        // rotations of pairs of rows, of determinant 1, leave the determinant in the last corner
        Matrix<N> upper = m;
        for (int p = 0; p < N - 1; p++)
            for (int q = p + 1; q < N; q++) {
                const vec pr = upper.re[p][p], pi = upper.im[p][p], qr = upper.re[q][p], qi = upper.im[q][p];
                const vec scale = 1 / sqrt_(max_(pr * pr + pi * pi + qr * qr + qi * qi, splat<vec>(traits<vec>::tiny)));
                turn(upper, p, q, {pr * scale, -qi * scale, qr * scale, -pi * scale});
            }
        const vec re = upper.re[N - 1][N - 1], im = upper.im[N - 1][N - 1];
        for (int k = 0; k < N; k++) {
            const vec old = m.re[N - 1][k];
            m.re[N - 1][k] = re * old + im * m.im[N - 1][k];
            m.im[N - 1][k] = re * m.im[N - 1][k] - im * old;
        }
    }
}
