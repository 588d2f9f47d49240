// link_stout for CPUs: for a block of links at a time, one a lane, the staples, the step and the determinant of its
// Jacobian. See link_stout/README.md.
#include "momenta.hpp"
#include "parameters.hpp"
#include "walks.hpp"

constexpr int N = SIZE, WIDTH = 2 * N * N;

namespace {

INLINE void gather(const Block& block, const int64_t* row, const real* links, Link<N>& u) {
    const real* record[L];
    vec tile[WIDTH];
    block.records<WIDTH>(row, links, record);
    gather_tile(record, WIDTH, tile);
    u.from_record(tile);
}

INLINE void scatter(real* out, int count, const Link<N>& u) {
    vec tile[WIDTH];
    u.to_record(tile);
    store_tile<WIDTH>(out, count, tile);
}

// Adds the product of links along one walk to the sum; false, where an index is not one of a link.
INLINE bool add_walk(const Walk& walk, const Block& block, const real* links, real weight, Link<N>& sum) {
    for (int64_t step = 0; step < walk.steps; step++)
        if (!block.inside(walk.row(step), walk.links)) return false;
    Link<N> product, link, next;
    gather(block, walk.row(0), links, product);
    if (!walk.forward[0]) next = product, turned(vec{}, splat<vec>(1), next, product);
    for (int64_t step = 1; step < walk.steps; step++) {
        gather(block, walk.row(step), links, link);
        if (walk.forward[step]) link_product<false, false, false>(product, link, next);
        else link_product<false, true, false>(product, link, next);
        product = next;
    }
    add(splat<vec>(weight), product, sum);
    return true;
}

#if SIZE == 2
// log det of B = -(w + i x . sigma), Q = -i x . sigma: (1 - w) (cos r - w sin(r) / r)^2, r = |x|.
INLINE vec log_det(const Link<2>& b) {
    const vec square = b.x * b.x + b.y * b.y + b.z * b.z;
    const auto still = square < traits<vec>::tiny;
    const vec r = sqrt_(select(still, vec{}, square));
    vec sine, cosine;
    sincos_(r, sine, cosine);
    const vec across = cosine - b.w * select<vec>(still, splat<vec>(1), sine / select<vec>(still, splat<vec>(1), r));
    return log_((1 - b.w) * across * across);
}
#else
// 2 zeta(2 m + 2) / (2 pi)^(2 m + 2), the negative coefficients of ((x / 2) cot(x / 2) - 1) / x^2 in x^2 < 4, and these
// over m + 1.
struct Terms {
    static constexpr int count = sizeof(real) == 4 ? 9 : 18;
    real of_cot[count] = {}, of_log[count] = {};

    constexpr Terms() {
        constexpr double circle = 4 * PI * PI, exact[3] = {1 / 12.0, 1 / 720.0, 1 / 30240.0};
        double power = 1;
        for (int m = 0; m < count; m++) {
            power /= circle;
            double zeta = 1;
            for (int k = 2; k < 100; k++) {
                double term = 1;
                for (int i = 0; i <= m; i++) term /= double(k) * k;
                zeta += term;
            }
            const double found = m < 3 ? exact[m] : 2 * zeta * power;
            of_cot[m] = real(found), of_log[m] = real(found / (m + 1));
        }
    }
};
constexpr Terms TERMS;

// sum_m terms[m] Y^m as a + b Y + c Y^2, by Horner's rule, where Y^3 = e1 Y^2 - e2 Y + e3
INLINE void series(const real (&terms)[Terms::count], vec e1, vec e2, vec e3, vec (&sum)[3]) {
    sum[0] = splat<vec>(terms[Terms::count - 1]), sum[1] = sum[2] = vec{};
#pragma GCC unroll 18
    for (int m = Terms::count - 2; m >= 0; m--) {
        const vec last = sum[2];
        sum[2] = sum[1] + e1 * last, sum[1] = sum[0] - e2 * last, sum[0] = terms[m] + e3 * last;
    }
}

// The Hermitian part of x + 2 i half y: its diagonal, and the real and imaginary parts of what is above.
INLINE void hermitian(const vec (&x)[3][3], const vec (&y)[3][3], real half, vec (&d)[3], vec (&re)[3], vec (&im)[3]) {
    for (int i = 0, k = 0; i < 3; i++) {
        d[i] = x[i][i];
        for (int j = i + 1; j < 3; j++, k++) {
            re[k] = real(0.5) * (x[i][j] + x[j][i]);
            im[k] = half * (y[i][j] - y[j][i]);
        }
    }
}

// The components of a Hermitian matrix a in the basis of Gell-Mann, and a third of its trace.
INLINE void components(const vec (&d)[3], const vec (&re)[3], const vec (&im)[3], vec (&c)[8], vec& mean) {
    c[0] = re[0], c[1] = -im[0], c[3] = re[1], c[4] = -im[1], c[5] = re[2], c[6] = -im[2];
    c[2] = real(0.5) * (d[0] - d[1]);
    c[7] = real(0.28867513459481288225) * (d[0] + d[1] - 2 * d[2]);
    mean = (d[0] + d[1] + d[2]) * real(1.0 / 3);
}

constexpr double HALF = 0.5, ROOT = 0.86602540378443864676, THIRD = 0.57735026918962576451;
struct Constant {
    int a, b, c;
    double value;
};
// f_abc with a < b < c, and d_abc with a <= b <= c
constexpr Constant F[] = {{0, 1, 2, 1},     {0, 3, 6, HALF},  {0, 4, 5, -HALF}, {1, 3, 5, HALF}, {1, 4, 6, HALF},
                          {2, 3, 4, HALF}, {2, 5, 6, -HALF}, {3, 4, 7, ROOT},  {5, 6, 7, ROOT}};
constexpr Constant D[] = {{0, 0, 7, THIRD},        {1, 1, 7, THIRD},        {2, 2, 7, THIRD},  {7, 7, 7, -THIRD},
                          {3, 3, 7, -THIRD / 2},  {4, 4, 7, -THIRD / 2},  {5, 5, 7, -THIRD / 2}, {6, 6, 7, -THIRD / 2},
                          {0, 3, 5, HALF},        {0, 4, 6, HALF},        {1, 3, 6, -HALF},  {1, 4, 5, HALF},
                          {2, 3, 3, HALF},        {2, 4, 4, HALF},        {2, 5, 5, -HALF},  {2, 6, 6, -HALF}};

// 2 f_abc q_c: x -> i [q, x], up to its sign
INLINE void commutator(const vec (&q)[8], vec (&k)[8][8]) {
    for (auto& row : k)
        for (vec& x : row) x = vec{};
#pragma GCC unroll 9
    for (const Constant& f : F) {
        const vec a = real(2 * f.value) * q[f.a], b = real(2 * f.value) * q[f.b], c = real(2 * f.value) * q[f.c];
        k[f.a][f.b] += c, k[f.b][f.a] -= c, k[f.b][f.c] += a, k[f.c][f.b] -= a, k[f.c][f.a] += b, k[f.a][f.c] -= b;
    }
}

// s += d_abc h_c, below the diagonal and on it: x -> (x h + h x) / 2 without its trace
INLINE void add_anticommutator(const vec (&h)[8], vec (&s)[8][8]) {
#pragma GCC unroll 16
    for (const Constant& d : D) {
        // each place of s once, of the six orders of a, b and c that are different
        s[d.b][d.a] += real(d.value) * h[d.c];
        if (d.c != d.b) s[d.c][d.a] += real(d.value) * h[d.b];
        if (d.a != d.b) s[d.c][d.b] += real(d.value) * h[d.a];
    }
}

// The product of two symmetric matrices that commute, below the diagonal and on it.
__attribute__((noinline)) void symmetric_product(const vec (&a)[8][8], const vec (&b)[8][8], vec (&c)[8][8]) {
    for (int i = 0; i < 8; i++)
        for (int j = 0; j <= i; j++) {
            vec sum = {};
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++) sum += a[i][k] * b[j][k];
            c[i][j] = sum;
        }
}

INLINE void mirror(vec (&a)[8][8]) {
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < i; j++) a[j][i] = a[i][j];
}

// The determinant of a positive definite matrix, given below the diagonal and on it, by that of L D L^T.
INLINE vec determinant(vec (&s)[8][8]) {
    vec product = splat<vec>(1);
    for (int k = 0; k < 8; k++) {
        product *= s[k][k];
        const vec inverse = reciprocal(s[k][k]);
        for (int i = k + 1; i < 8; i++) {
            const vec share = s[i][k] * inverse;
            for (int j = k + 1; j <= i; j++) s[i][j] -= share * s[j][k];
        }
    }
    return product;
}

// log det of -B, B = i q + h with q and h Hermitian.
__attribute__((noinline)) vec log_det(const Link<3>& b) {
    vec d[3], re[3], im[3], q[8], h[8], mean;
    hermitian(b.im, b.re, real(-0.5), d, re, im);
    components(d, re, im, q, mean);
    // c1 = tr q^2 / 2 and c0 = det q, without the trace of q
    vec c1 = {};
    for (const vec& x : q) c1 += x * x;
    for (vec& x : d) x -= mean;
    vec c0 = d[0] * (d[1] * d[2] - re[2] * re[2] - im[2] * im[2]) - d[1] * (re[1] * re[1] + im[1] * im[1]) -
             d[2] * (re[0] * re[0] + im[0] * im[0]);
    c0 += 2 * ((re[0] * re[2] - im[0] * im[2]) * re[1] + (re[0] * im[2] + im[0] * re[2]) * im[1]);
    const vec e1 = 6 * c1, e2 = 9 * c1 * c1, e3 = 4 * c1 * c1 * c1 - 27 * c0 * c0;
    vec cot[3], log[3];
    series(TERMS.of_cot, e1, e2, e3, cot);
    series(TERMS.of_log, e1, e2, e3, log);
    const vec turning = log[0] * e1 + log[1] * (2 * e2) + log[2] * (6 * c1 * e2 + 3 * e3);

    vec k[8][8], y[8][8], w[8][8], s[8][8];
    commutator(q, k);
    symmetric_product(k, k, y);  // K K^T = Y
    mirror(y);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++) s[i][j] = cot[2] * y[i][j] + (i == j ? cot[1] : vec{});
    symmetric_product(s, y, w);
    for (int i = 0; i < 8; i++) w[i][i] += cot[0];
    mirror(w);
    symmetric_product(w, y, s);

    hermitian(b.re, b.im, real(0.5), d, re, im);
    components(d, re, im, h, mean);
    add_anticommutator(h, s);
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < i; j++) s[i][j] = -s[i][j];
        s[i][i] = 1 - mean - s[i][i];
    }
    return log_(determinant(s)) - turning;
}
#endif

}  // namespace

// Returns in how many blocks an index is not one of a link: nothing is read through it.
extern "C" int64_t link_stout(const real* links, const int64_t* tables, const int64_t* forward, int64_t batch,
                              int64_t n_links, int64_t walks, int64_t steps, int64_t starts, const int64_t* active,
                              const double* weights, real* out, real* logdet, int64_t threads) {
    const Walk first_walk{tables, forward, steps, starts, n_links};
    return for_blocks(batch * starts, threads, [=](int64_t first, int count) {
        Walk walk = first_walk;
        const Block block(walk, first, count);
        Link<N> sum = {}, u, b, moved;
        for (int64_t w = 0; w < walks; w++, walk.table += steps * starts, walk.forward += steps)
            if (!add_walk(walk, block, links, real(weights[w]), sum)) return false;
        if (!block.inside(active, n_links)) return false;
        gather(block, active, links, u);
        link_product<false, false, false>(u, sum, b);
        Momentum<N> q = {};
        kick(b, splat<vec>(1), q);
        move(q, 1, u, moved);
        scatter(out + first * WIDTH, count, moved);
        store_part(logdet + first, count, log_det(b));
        return true;
    });
}
