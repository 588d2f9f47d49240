// exp on the algebras of SU(2) and SU(3), and its derivative, for CPUs: a block of matrices at a time, one a lane.
#include <vector>

#include "elementary.hpp"
#include "matrices.hpp"
#include "parameters.hpp"

namespace {

#if SIZE == 2
// x = i q . sigma, exp(x) = cos |q| + i sin|q| / |q| q . sigma.

INLINE void load_quaternion(const real* p, int count, vec& one, vec (&q)[3]) {
    Matrix<2> m;
    load_matrices(p, count, m);
    quaternion(m, one, q);
    one *= real(0.5);
    for (vec& x : q) x *= real(0.5);
}

INLINE void store_quaternion(real* p, int count, vec one, const vec (&q)[3]) {
    Matrix<2> m;
    compose(one, q, m);
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

#else
// Without eigenvalues: a power series in x = i Q by the theorem of Cayley and Hamilton, and squarings where Q is large.
// See algebra_exp/README.md.

// Hermitian matrices: the diagonal, and the elements 01, 02 and 12.
struct Hermitian {
    vec d[3], re[3], im[3];

    INLINE void scale(vec factor) {
        for (int k = 0; k < 3; k++) d[k] *= factor, re[k] *= factor, im[k] *= factor;
    }
};

// a and b of m = a + i b
INLINE void split(const Matrix<3>& m, Hermitian& a, Hermitian& b) {
    for (int k = 0; k < 3; k++) a.d[k] = m.re[k][k], b.d[k] = m.im[k][k];
    for (int i = 0, k = 0; i < 3; i++)
        for (int j = i + 1; j < 3; j++, k++) {
            a.re[k] = real(0.5) * (m.re[i][j] + m.re[j][i]);
            a.im[k] = real(0.5) * (m.im[i][j] - m.im[j][i]);
            b.re[k] = real(0.5) * (m.im[i][j] + m.im[j][i]);
            b.im[k] = real(0.5) * (m.re[j][i] - m.re[i][j]);
        }
}

INLINE void join(const Hermitian& a, const Hermitian& b, Matrix<3>& m) {
    for (int k = 0; k < 3; k++) m.re[k][k] = a.d[k], m.im[k][k] = b.d[k];
    for (int i = 0, k = 0; i < 3; i++)
        for (int j = i + 1; j < 3; j++, k++) {
            m.re[i][j] = a.re[k] - b.im[k];
            m.im[i][j] = a.im[k] + b.re[k];
            m.re[j][i] = a.re[k] + b.im[k];
            m.im[j][i] = b.re[k] - a.im[k];
        }
}

INLINE void remove_trace(Hermitian& a) {
    const vec mean = (a.d[0] + a.d[1] + a.d[2]) / real(3);
    for (int k = 0; k < 3; k++) a.d[k] -= mean;
}

// tr a b
INLINE vec trace(const Hermitian& a, const Hermitian& b) {
    vec sum = {};
    for (int k = 0; k < 3; k++) sum += a.d[k] * b.d[k] + 2 * (a.re[k] * b.re[k] + a.im[k] * b.im[k]);
    return sum;
}

// y += factor x
INLINE void add(vec factor, const Hermitian& x, Hermitian& y) {
    for (int k = 0; k < 3; k++) y.d[k] += factor * x.d[k], y.re[k] += factor * x.re[k], y.im[k] += factor * x.im[k];
}

// a b + b a
INLINE void anticommutator(const Hermitian& a, const Hermitian& b, Hermitian& c) {
    vec overlap[3];
    for (int k = 0; k < 3; k++) overlap[k] = a.re[k] * b.re[k] + a.im[k] * b.im[k];
    c.d[0] = 2 * (a.d[0] * b.d[0] + overlap[0] + overlap[1]);
    c.d[1] = 2 * (a.d[1] * b.d[1] + overlap[0] + overlap[2]);
    c.d[2] = 2 * (a.d[2] * b.d[2] + overlap[1] + overlap[2]);
    const vec sum_a[3] = {a.d[0] + a.d[1], a.d[0] + a.d[2], a.d[1] + a.d[2]};
    const vec sum_b[3] = {b.d[0] + b.d[1], b.d[0] + b.d[2], b.d[1] + b.d[2]};
    for (int k = 0; k < 3; k++) {
        c.re[k] = a.re[k] * sum_b[k] + b.re[k] * sum_a[k];
        c.im[k] = a.im[k] * sum_b[k] + b.im[k] * sum_a[k];
    }
    auto add_chain = [&](const Hermitian& p, const Hermitian& q) {
        c.re[0] += p.re[1] * q.re[2] + p.im[1] * q.im[2];  // 02 21
        c.im[0] += p.im[1] * q.re[2] - p.re[1] * q.im[2];
        c.re[1] += p.re[0] * q.re[2] - p.im[0] * q.im[2];  // 01 12
        c.im[1] += p.re[0] * q.im[2] + p.im[0] * q.re[2];
        c.re[2] += p.re[0] * q.re[1] + p.im[0] * q.im[1];  // 10 02
        c.im[2] += p.re[0] * q.im[1] - p.im[0] * q.re[1];
    };
    add_chain(a, b);
    add_chain(b, a);
}

// Q and its square, Q^3 = c1 Q + c0, all for x / 2^count: so many halvings that the series converges. A lane that is not
// finite is not halved, and comes out as NaN.
struct Powers {
    Hermitian q, square;
    vec c0, c1, scale;
    mask_of<vec> count;
    int steps;

    INLINE explicit Powers(const Matrix<3>& x) {
        Hermitian rest;
        split(x, rest, q);
        remove_trace(q);
        c1 = real(0.5) * trace(q, q);
        scale = splat<vec>(1);
        count = mask_of<vec>{};
        // the largest eigenvalue is at most sqrt(4 c1 / 3): 3 is enough for the terms of `Series`
        for (steps = 0;; steps++) {
            const auto large = (c1 > real(6.75)) & (c1 <= std::numeric_limits<real>::max());
            if (!any(large)) break;
            scale = select(large, scale * real(0.5), scale);
            c1 = select(large, c1 * real(0.25), c1);
            count -= large;
        }
        if (steps) q.scale(scale);
        anticommutator(q, q, square);
        square.scale(splat<vec>(0.5));
        // the determinant, along the first row
        c0 = q.d[0] * (q.d[1] * q.d[2] - q.re[2] * q.re[2] - q.im[2] * q.im[2]);
        c0 += q.re[0] * (q.re[1] * q.re[2] + q.im[1] * q.im[2] - q.d[2] * q.re[0]);
        c0 += q.im[0] * (q.im[1] * q.re[2] - q.re[1] * q.im[2] - q.d[2] * q.im[0]);
        c0 += q.re[1] * (q.re[0] * q.re[2] - q.im[0] * q.im[2] - q.d[1] * q.re[1]);
        c0 += q.im[1] * (q.re[0] * q.im[2] + q.im[0] * q.re[2] - q.d[1] * q.im[1]);
    }
};

// The coefficients of a polynomial a + b Q + c Q^2
struct Quadratic {
    vec a = {}, b = {}, c = {};

    INLINE Quadratic times_q(vec c0, vec c1) const { return {c0 * c, a + c1 * c, b}; }
    INLINE void evaluate(const Powers& x, Hermitian& sum) const {
        for (int k = 0; k < 3; k++) {
            sum.d[k] = a + b * x.q.d[k] + c * x.square.d[k];
            sum.re[k] = b * x.q.re[k] + c * x.square.re[k];
            sum.im[k] = b * x.q.im[k] + c * x.square.im[k];
        }
    }
};

// (-1)^m / (2m)! of the cosine, (-1)^m / (2m + 1)! of the sine: for eigenvalues up to 3 the next one is below rounding.
struct Terms {
    static constexpr int count = sizeof(real) == 4 ? 10 : 15;
    real cosine[count] = {}, sine[count] = {};

    constexpr Terms() {
        double term = 1;
        for (int m = 0; m < count; m++) {
            cosine[m] = real(term);
            sine[m] = real(term / (2 * m + 1));
            term /= -(2.0 * m + 1) * (2 * m + 2);
        }
    }
};
constexpr Terms TERMS;

// The sum over m of terms[m] Q^(2m) by the scheme of Horner, with its derivative in c0 where that is wanted.
template <bool derivative>
INLINE void series(const real (&terms)[Terms::count], vec c0, vec c1, Quadratic& f, Quadratic& slope) {
    f = Quadratic{splat<vec>(terms[Terms::count - 1])};
    slope = Quadratic{};
    for (int m = Terms::count - 2; m >= 0; m--) {
        if (derivative) slope = {f.b + c0 * slope.b, f.c + c1 * slope.b + c0 * slope.c, slope.a + c1 * slope.c};
        f = {c0 * f.b + terms[m], c1 * f.b + c0 * f.c, f.a + c1 * f.c};
    }
}

// cos Q and sin Q
template <bool derivative> struct Waves {
    Quadratic cosine, sine, cosine_slope, sine_slope;

    INLINE explicit Waves(const Powers& x) {
        Quadratic ratio, slope;
        series<derivative>(TERMS.cosine, x.c0, x.c1, cosine, cosine_slope);
        series<derivative>(TERMS.sine, x.c0, x.c1, ratio, slope);
        sine = ratio.times_q(x.c0, x.c1);
        sine_slope = slope.times_q(x.c0, x.c1);
        sine_slope.a += ratio.c;
    }

    INLINE void exponential(const Powers& x, Matrix<3>& u) const {
        Hermitian a, b;
        cosine.evaluate(x, a);
        sine.evaluate(x, b);
        join(a, b, u);
    }
};

// u to u^2 in the lanes that are to be squared that often
INLINE void square(const Powers& x, int step, Matrix<3>& u) {
    Matrix<3> twice;
    multiply(u, u, twice);
    // or else every squaring would double what is missing to unitarity
    orthonormalise(twice);
    choose(x.count > step, twice, u);
}

INLINE void exponential(const real* p, int count, real* out) {
    Matrix<3> m;
    load_matrices(p, count, m);
    const Powers x(m);
    Waves<false>(x).exponential(x, m);
    for (int step = 0; step < x.steps; step++) square(x, step, m);
    store_matrices(out, count, m);
}

// From the gradient of u^2 to that of u: u^dagger grad + grad u^dagger
INLINE void square_backward(const Powers& x, int step, const Matrix<3>& u, Matrix<3>& grad) {
    Matrix<3> left, right;
    multiply<3, true>(u, grad, left);
    multiply<3, false, true>(grad, u, right);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) left.re[i][j] += right.re[i][j], left.im[i][j] += right.im[i][j];
    choose(x.count > step, left, grad);
}

INLINE void gradient(const real* p, const real* grad, int count, real* out) {
    Matrix<3> m, g;
    load_matrices(p, count, m);
    load_matrices(grad, count, g);
    const Powers x(m);
    const Waves<true> waves(x);
    if (x.steps) {
        std::vector<Matrix<3>> u(x.steps);
        waves.exponential(x, u[0]);
        for (int step = 1; step < x.steps; step++) square(x, step - 1, u[step] = u[step - 1]);
        for (int step = x.steps - 1; step >= 0; step--) square_backward(x, step, u[step], g);
    }
    // With grad = a + i b, dL = tr a d(cos Q) + tr b d(sin Q)
    Hermitian a, b, sum;
    split(g, a, b);
    const vec one_a = a.d[0] + a.d[1] + a.d[2], one_b = b.d[0] + b.d[1] + b.d[2];
    const vec q_a = trace(a, x.q), q_b = trace(b, x.q), square_a = trace(a, x.square), square_b = trace(b, x.square);
    auto against = [&](const Quadratic& cosine, const Quadratic& sine) {
        return one_a * cosine.a + q_a * cosine.b + square_a * cosine.c + one_b * sine.a + q_b * sine.b + square_b * sine.c;
    };
    // dc0 = tr Q^2 dQ, dc1 = tr Q dQ; the derivative in c1 is Q times that in c0
    const vec g_c0 = against(waves.cosine_slope, waves.sine_slope);
    const vec g_c1 = against(waves.cosine_slope.times_q(x.c0, x.c1), waves.sine_slope.times_q(x.c0, x.c1));
    Hermitian outer = a;
    outer.scale(waves.cosine.c);
    add(waves.sine.c, b, outer);
    anticommutator(outer, x.q, sum);
    add(waves.cosine.b, a, sum);
    add(waves.sine.b, b, sum);
    add(g_c0, x.square, sum);
    add(g_c1, x.q, sum);
    remove_trace(sum);
    sum.scale(x.scale);
    join(Hermitian{}, sum, m);
    store_matrices(out, count, m);
}

#endif

constexpr int WIDTH = 2 * SIZE * SIZE;

}  // namespace

extern "C" int64_t algebra_exp(const real* x, int64_t total, real* out, int64_t threads) {
    return for_blocks(total, threads, [=](int64_t m, int count) {
        exponential(x + m * WIDTH, count, out + m * WIDTH);
        return true;
    });
}

extern "C" int64_t algebra_exp_backward(const real* x, const real* grad, int64_t total, real* out, int64_t threads) {
    return for_blocks(total, threads, [=](int64_t m, int count) {
        gradient(x + m * WIDTH, grad + m * WIDTH, count, out + m * WIDTH);
        return true;
    });
}
