// exp on the algebra of SU(2) and its derivative: x = i q . sigma, exp(x) = cos |q| + i sin|q| / |q| q . sigma.
#pragma once
#include "elementary.hpp"
#include "matrices.hpp"

namespace su2 {

// What a 2 x 2 matrix has of 1 and of i sigma.
INLINE void load_quaternion(const real* p, int count, vec& one, vec (&q)[3]) {
    Matrix<2> m;
    load_matrices(p, count, m);
    one = real(0.5) * (m.re[0][0] + m.re[1][1]);
    q[0] = real(0.5) * (m.im[0][1] + m.im[1][0]);
    q[1] = real(0.5) * (m.re[0][1] - m.re[1][0]);
    q[2] = real(0.5) * (m.im[0][0] - m.im[1][1]);
}

INLINE void store_quaternion(real* p, int count, vec one, const vec (&q)[3]) {
    Matrix<2> m;
    m.re[0][0] = m.re[1][1] = one;
    m.im[0][1] = m.im[1][0] = q[0];
    m.re[0][1] = q[1], m.re[1][0] = -q[1];
    m.im[0][0] = q[2], m.im[1][1] = -q[2];
    store_matrices(p, count, m);
}

// cos r, sin(r) / r and q / r for the length r of q; where r^2 is no normal number they are 1, 1 and 0.
struct Turn {
    vec cosine, sine, sinc, n[3];

    INLINE explicit Turn(const vec (&q)[3]) {
        const vec square = q[0] * q[0] + q[1] * q[1] + q[2] * q[2];
        const auto still = square < traits<vec>::tiny;
        const vec r = sqrt_(select(still, vec{}, square)), inverse = 1 / select(still, splat<vec>(1), r);
        sincos_(r, sine, cosine);
        sinc = select(still, splat<vec>(1), sine * inverse);
        for (int k = 0; k < 3; k++) n[k] = select(still, vec{}, q[k] * inverse);
    }
};

INLINE void exponential(const real* x, int count, real* out) {
    vec one, q[3];
    load_quaternion(x, count, one, q);
    const Turn turn(q);
    for (int k = 0; k < 3; k++) q[k] *= turn.sinc;
    store_quaternion(out, count, turn.cosine, q);
}

// Along q the derivative of (cos r, sin r n), across it that of sinc(r) q.
INLINE void gradient(const real* x, const real* grad, int count, real* out) {
    vec one, q[3], g[3];
    load_quaternion(x, count, one, q);
    const Turn turn(q);
    load_quaternion(grad, count, one, g);
    const vec along = g[0] * turn.n[0] + g[1] * turn.n[1] + g[2] * turn.n[2];
    const vec radial = (turn.cosine - turn.sinc) * along - turn.sine * one;
    for (int k = 0; k < 3; k++) g[k] = turn.sinc * g[k] + radial * turn.n[k];
    store_quaternion(out, count, vec{}, g);
}

}  // namespace su2
