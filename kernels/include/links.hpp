// Links of U(1), SU(2) and SU(N) in lanes, as long as they stay there: phases, quaternions, matrices. Sums of products of
// links are kept in the same form.
#pragma once
#include "subgroups.hpp"

template <int N> struct Link : Matrix<N> {
    static constexpr int WIDTH = 2 * N * N;  // of a record in memory
    INLINE void from_record(const vec (&tile)[WIDTH]) { from_tile(tile, static_cast<Matrix<N>&>(*this)); }
    INLINE void to_record(vec (&tile)[WIDTH]) const {
        Matrix<N> m = *this;
        if constexpr (N > 3) restore(m);
        to_tile(m, tile);
    }
    template <class T> INLINE void scale(T factor) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) this->re[i][j] *= factor, this->im[i][j] *= factor;
    }
};

template <> struct Link<2> : Quaternion {
    static constexpr int WIDTH = 8;
    INLINE void from_record(const vec (&m)[WIDTH]) {
        const real half = 0.5;
        w = half * (m[0] + m[6]), x = half * (m[3] + m[5]), y = half * (m[2] - m[4]), z = half * (m[1] - m[7]);
    }
    INLINE void to_record(vec (&m)[WIDTH]) const {
        m[0] = m[6] = w, m[1] = z, m[7] = -z, m[2] = y, m[4] = -y, m[3] = m[5] = x;
    }
    template <class T> INLINE void scale(T factor) { w *= factor, x *= factor, y *= factor, z *= factor; }
};

template <> struct Link<1> {
    vec re, im;
    static constexpr int WIDTH = 1;  // an angle
    INLINE void from_record(const vec (&tile)[WIDTH]) { sincos_(tile[0], im, re); }
    INLINE void to_record(vec (&tile)[WIDTH]) const {
        const vec angle = atan2_(im, re);
        tile[0] = select<vec>(angle >= real(PI), splat<vec>(-PI), angle);
    }
    template <class T> INLINE void scale(T factor) { re *= factor, im *= factor; }
};

// The numbers of a link.
template <int N> struct Entries {
    const Link<N>& link;
    INLINE vec re(int i, int j) const { return link.re[i][j]; }
    INLINE vec im(int i, int j) const { return link.im[i][j]; }
};

// a b of entries, with either or both adjoint, as outer products, so many rows and columns in registers: begin(i, j, re, im)
// sets what a number is added to, and end(i, j, re, im) takes the sum. Each product of numbers is added in a statement of its
// own: in a sum of two GCC would multiply, multiply and add.
template <bool adjoint_a, bool adjoint_b, int N, class A, class B, class Begin, class End>
INLINE void outer_products(const A& a, const B& b, Begin begin, End end) {
    constexpr int ROWS = N == 4 || N > 6 ? 4 : 3, COLUMNS = N == 4 || N > 6 ? 2 : 3;
#pragma GCC unroll 8
    for (int i0 = 0; i0 < N; i0 += ROWS)
#pragma GCC unroll 8
        for (int j0 = 0; j0 < N; j0 += COLUMNS) {
            vec re[ROWS][COLUMNS], im[ROWS][COLUMNS];
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 8
                for (int j = 0; j < COLUMNS; j++)
                    if (i0 + i < N && j0 + j < N) begin(i0 + i, j0 + j, re[i][j], im[i][j]);
#pragma GCC unroll 8
            for (int k = 0; k < N; k++)
#pragma GCC unroll 8
                for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 8
                    for (int j = 0; j < COLUMNS; j++)
                        if (i0 + i < N && j0 + j < N) {
                            const int row = i0 + i, column = j0 + j;
                            const vec ar = adjoint_a ? a.re(k, row) : a.re(row, k);
                            const vec ai = adjoint_a ? a.im(k, row) : a.im(row, k);
                            const vec br = adjoint_b ? b.re(column, k) : b.re(k, column);
                            const vec bi = adjoint_b ? b.im(column, k) : b.im(k, column);
                            re[i][j] += ar * br;
                            im[i][j] += adjoint_b ? -(ar * bi) : ar * bi;
                            re[i][j] += adjoint_a == adjoint_b ? -(ai * bi) : ai * bi;
                            im[i][j] += adjoint_a ? -(ai * br) : ai * br;
                        }
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 8
                for (int j = 0; j < COLUMNS; j++)
                    if (i0 + i < N && j0 + j < N) end(i0 + i, j0 + j, re[i][j], im[i][j]);
        }
}

// c = a b, or c + a b, with either or both adjoint.
template <bool adjoint_a, bool adjoint_b, bool add, int N, class A, class B>
INLINE void entries_product(const A& a, const B& b, Link<N>& c) {
    outer_products<adjoint_a, adjoint_b, N>(
        a, b,
        [&](int i, int j, vec& re, vec& im) __attribute__((always_inline)) {
            re = add ? c.re[i][j] : vec{}, im = add ? c.im[i][j] : vec{};
        },
        [&](int i, int j, vec re, vec im) __attribute__((always_inline)) { c.re[i][j] = re, c.im[i][j] = im; });
}

// The same of links. Not inline: a caller with dozens of them keeps nothing in registers.
template <bool adjoint_a, bool adjoint_b, bool add, int N>
__attribute__((noinline)) void link_product(const Link<N>& a, const Link<N>& b, Link<N>& c) {
    entries_product<adjoint_a, adjoint_b, add>(Entries<N>{a}, Entries<N>{b}, c);
}

template <bool adjoint_a, bool adjoint_b, bool add>
INLINE void link_product(const Link<2>& a, const Link<2>& b, Link<2>& c) {
    const real s = adjoint_a ? -1 : 1, t = adjoint_b ? -1 : 1;
    const Quaternion p{a.w, s * a.x, s * a.y, s * a.z}, q{b.w, t * b.x, t * b.y, t * b.z};
    Quaternion sum = add ? Quaternion(c) : Quaternion{};
    sum.w = sum.w + p.w * q.w - p.x * q.x - p.y * q.y - p.z * q.z;
    sum.x = sum.x + p.w * q.x + p.x * q.w - p.y * q.z + p.z * q.y;
    sum.y = sum.y + p.w * q.y + p.y * q.w - p.z * q.x + p.x * q.z;
    sum.z = sum.z + p.w * q.z + p.z * q.w - p.x * q.y + p.y * q.x;
    static_cast<Quaternion&>(c) = sum;
}

template <bool adjoint_a, bool adjoint_b, bool add>
INLINE void link_product(const Link<1>& a, const Link<1>& b, Link<1>& c) {
    const real s = adjoint_a ? -1 : 1, t = adjoint_b ? -1 : 1;
    const vec re = (add ? c.re : vec{}) + a.re * b.re - (s * t) * (a.im * b.im);
    const vec im = (add ? c.im : vec{}) + a.re * (t * b.im) + (s * a.im) * b.re;
    c.re = re, c.im = im;
}

// c = factor a b, with a real or a complex factor; that of SU(2) is real.
template <bool adjoint_a, bool adjoint_b, int N>
__attribute__((noinline)) void link_product_times(const Link<N>& a, const Link<N>& b, const vec& factor, Link<N>& c) {
    outer_products<adjoint_a, adjoint_b, N>(
        Entries<N>{a}, Entries<N>{b}, [](int, int, vec& re, vec& im) __attribute__((always_inline)) { re = im = vec{}; },
        [&](int i, int j, vec re, vec im)
            __attribute__((always_inline)) { c.re[i][j] = factor * re, c.im[i][j] = factor * im; });
}
template <bool adjoint_a, bool adjoint_b, int N>
__attribute__((noinline)) void link_product_times(const Link<N>& a, const Link<N>& b, const vec& along, const vec& across,
                                                  Link<N>& c) {
    outer_products<adjoint_a, adjoint_b, N>(
        Entries<N>{a}, Entries<N>{b}, [](int, int, vec& re, vec& im) __attribute__((always_inline)) { re = im = vec{}; },
        [&](int i, int j, vec re, vec im) __attribute__((always_inline)) {
            c.re[i][j] = along * re, c.im[i][j] = along * im;
            c.re[i][j] -= across * im, c.im[i][j] += across * re;
        });
}
template <bool adjoint_a, bool adjoint_b>
INLINE void link_product_times(const Link<2>& a, const Link<2>& b, const vec& factor, Link<2>& c) {
    link_product<adjoint_a, adjoint_b, false>(a, b, c);
    c.scale(factor);
}
template <bool adjoint_a, bool adjoint_b>
INLINE void link_product_times(const Link<2>& a, const Link<2>& b, const vec& along, const vec&, Link<2>& c) {
    link_product_times<adjoint_a, adjoint_b>(a, b, along, c);
}
template <bool adjoint_a, bool adjoint_b>
INLINE void link_product_times(const Link<1>& a, const Link<1>& b, const vec& factor, Link<1>& c) {
    link_product<adjoint_a, adjoint_b, false>(a, b, c);
    c.scale(factor);
}
template <bool adjoint_a, bool adjoint_b>
INLINE void link_product_times(const Link<1>& a, const Link<1>& b, const vec& along, const vec& across, Link<1>& c) {
    Link<1> product;
    link_product<adjoint_a, adjoint_b, false>(a, b, product);
    c.re = along * product.re, c.im = along * product.im;
    c.re -= across * product.im, c.im += across * product.re;
}

// Re tr(a b^dagger)
template <int N> INLINE vec overlap(const Link<N>& a, const Link<N>& b) {
    vec sum = {};
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            sum += a.re[i][j] * b.re[i][j];
            sum += a.im[i][j] * b.im[i][j];
        }
    return sum;
}
INLINE vec overlap(const Link<2>& a, const Link<2>& b) {
    return 2 * (a.w * b.w + a.x * b.x + a.y * b.y + a.z * b.z);
}
INLINE vec overlap(const Link<1>& a, const Link<1>& b) { return a.re * b.re + a.im * b.im; }

template <int N> INLINE vec retrace(const Link<N>& a) {
    vec sum = {};
    for (int i = 0; i < N; i++) sum += a.re[i][i];
    return sum;
}
INLINE vec retrace(const Link<2>& a) { return 2 * a.w; }
INLINE vec retrace(const Link<1>& a) { return a.re; }

// Re tr(a b)
template <int N> INLINE vec retrace(const Link<N>& a, const Link<N>& b) {
    vec sum = {};
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            sum += a.re[i][j] * b.re[j][i];
            sum -= a.im[i][j] * b.im[j][i];
        }
    return sum;
}
INLINE vec retrace(const Link<2>& a, const Link<2>& b) { return 2 * (a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z); }
INLINE vec retrace(const Link<1>& a, const Link<1>& b) { return a.re * b.re - a.im * b.im; }

// tr(a b), and tr a
template <int N> INLINE void trace(const Link<N>& a, const Link<N>& b, vec& re, vec& im) {
    re = retrace(a, b), im = vec{};
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            im += a.re[i][j] * b.im[j][i];
            im += a.im[i][j] * b.re[j][i];
        }
}
INLINE void trace(const Link<2>& a, const Link<2>& b, vec& re, vec& im) { re = retrace(a, b), im = vec{}; }
INLINE void trace(const Link<1>& a, const Link<1>& b, vec& re, vec& im) {
    re = retrace(a, b), im = a.re * b.im + a.im * b.re;
}
template <int N> INLINE void trace(const Link<N>& a, vec& re, vec& im) {
    re = retrace(a), im = vec{};
    for (int i = 0; i < N; i++) im += a.im[i][i];
}
INLINE void trace(const Link<2>& a, vec& re, vec& im) { re = retrace(a), im = vec{}; }
INLINE void trace(const Link<1>& a, vec& re, vec& im) { re = a.re, im = a.im; }

// sum += number
template <int N> INLINE void add_number(vec re, vec im, Link<N>& sum) {
    for (int i = 0; i < N; i++) sum.re[i][i] += re, sum.im[i][i] += im;
}
INLINE void add_number(vec re, vec, Link<2>& sum) { sum.w += re; }  // that of SU(2) is real
INLINE void add_number(vec re, vec im, Link<1>& sum) { sum.re += re, sum.im += im; }

// along * a + against * a^dagger
template <int N> INLINE void turned(vec along, vec against, const Link<N>& a, Link<N>& out) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            out.re[i][j] = along * a.re[i][j] + against * a.re[j][i];
            out.im[i][j] = along * a.im[i][j] - against * a.im[j][i];
        }
}
INLINE void turned(vec along, vec against, const Link<2>& a, Link<2>& out) {
    const vec even = along + against, odd = along - against;
    out.w = even * a.w, out.x = odd * a.x, out.y = odd * a.y, out.z = odd * a.z;
}
INLINE void turned(vec along, vec against, const Link<1>& a, Link<1>& out) {
    out.re = (along + against) * a.re, out.im = (along - against) * a.im;
}

// a + b, and sum += weight * a
template <int N> INLINE void add(const Link<N>& a, const Link<N>& b, Link<N>& out) {
    const vec *first = reinterpret_cast<const vec*>(&a), *second = reinterpret_cast<const vec*>(&b);
    vec* to = reinterpret_cast<vec*>(&out);
    for (size_t k = 0; k < sizeof(a) / sizeof(vec); k++) to[k] = first[k] + second[k];
}
template <int N> INLINE void add(vec weight, const Link<N>& a, Link<N>& sum) {
    const vec* from = reinterpret_cast<const vec*>(&a);
    vec* to = reinterpret_cast<vec*>(&sum);
    for (size_t k = 0; k < sizeof(a) / sizeof(vec); k++) to[k] += weight * from[k];
}

// Adds a b, or a^dagger b^dagger, to two sums, and returns the trace of it.
template <bool adjoint, int N>
__attribute__((noinline)) void add_product(const Link<N>& a, const Link<N>& b, Link<N>& one, Link<N>& two, vec& trace_re,
                                           vec& trace_im) {
    vec sum_re = {}, sum_im = {};
    outer_products<adjoint, adjoint, N>(
        Entries<N>{a}, Entries<N>{b}, [](int, int, vec& re, vec& im) __attribute__((always_inline)) { re = im = vec{}; },
        [&](int i, int j, vec re, vec im) __attribute__((always_inline)) {
            one.re[i][j] += re, one.im[i][j] += im, two.re[i][j] += re, two.im[i][j] += im;
            if (i == j) sum_re += re, sum_im += im;
        });
    trace_re = sum_re, trace_im = sum_im;
}

template <bool adjoint, int N>
INLINE void add_small_product(const Link<N>& a, const Link<N>& b, Link<N>& one, Link<N>& two, vec& re, vec& im) {
    Link<N> product;
    link_product<adjoint, adjoint, false>(a, b, product);
    add(splat<vec>(1), product, one), add(splat<vec>(1), product, two);
    trace(product, re, im);
}
template <bool adjoint> INLINE void add_product(const Link<2>& a, const Link<2>& b, Link<2>& one, Link<2>& two, vec& re, vec& im) {
    add_small_product<adjoint>(a, b, one, two, re, im);
}
template <bool adjoint> INLINE void add_product(const Link<1>& a, const Link<1>& b, Link<1>& one, Link<1>& two, vec& re, vec& im) {
    add_small_product<adjoint>(a, b, one, two, re, im);
}

// Takes the rounding of a few products out of a link: rows orthonormal up to the square of what they lacked, and the last
// row of SU(3) from the others. The phase of larger determinants drifts by rounding, until they go back to memory.
template <int N> INLINE void neaten(Link<N>& m) {
    for (int i = 0; i < (N == 3 ? 2 : N); i++) {
        for (int j = 0; j < i; j++) {
            vec re = {}, im = {};
            for (int k = 0; k < N; k++) {
                re += m.re[j][k] * m.re[i][k];
                im += m.re[j][k] * m.im[i][k];
                re += m.im[j][k] * m.im[i][k];
                im -= m.im[j][k] * m.re[i][k];
            }
            for (int k = 0; k < N; k++) {
                m.re[i][k] -= re * m.re[j][k];
                m.im[i][k] -= re * m.im[j][k];
                m.re[i][k] += im * m.im[j][k];
                m.im[i][k] -= im * m.re[j][k];
            }
        }
        vec square = {};
        for (int k = 0; k < N; k++) {
            square += m.re[i][k] * m.re[i][k];
            square += m.im[i][k] * m.im[i][k];
        }
        const vec factor = real(1.5) - real(0.5) * square;
        for (int k = 0; k < N; k++) m.re[i][k] *= factor, m.im[i][k] *= factor;
    }
    if constexpr (N == 3) complete(m);
}
INLINE vec square(const Link<2>& u) { return u.w * u.w + u.x * u.x + u.y * u.y + u.z * u.z; }
INLINE vec square(const Link<1>& u) { return u.re * u.re + u.im * u.im; }
INLINE void neaten(Link<2>& u) { u.scale(real(1.5) - real(0.5) * square(u)); }
INLINE void neaten(Link<1>& u) { u.scale(real(1.5) - real(0.5) * square(u)); }
