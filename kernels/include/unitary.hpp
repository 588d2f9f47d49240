// The decomposition of unitary matrices on lanes: eigenphases and eigenvectors.
#pragma once
#include "elementary.hpp"
#include "matrices.hpp"

// Whether every element of w^dagger w - 1 is at most this large; false for NaN. As in kernels/unitary_eig/reference.py.
constexpr double NEARLY_UNITARY = 1e-3;

template <int N> INLINE bool nearly_unitary(const Matrix<N>& w) {
    auto good = ~mask_of<vec>{};
    for (int i = 0; i < N; i++)
        for (int j = i; j < N; j++) {
            vec re = splat<vec>(i == j ? -1 : 0), im = {};
            for (int k = 0; k < N; k++) {
                re += w.re[k][i] * w.re[k][j] + w.im[k][i] * w.im[k][j];
                im += w.re[k][i] * w.im[k][j] - w.im[k][i] * w.re[k][j];
            }
            good &= re * re + im * im <= real(NEARLY_UNITARY * NEARLY_UNITARY);
        }
    return !any(~good);
}

// cos(acos(x) / 3) on [0, 1], where it is analytic
template <class V> struct cosine_third;
template <> struct cosine_third<floats> {
    static constexpr float terms[] = {0.8660254164f,   0.1666650431f,  -0.04807735034f,  0.02439238383f,
                                      -0.01428956483f, 0.007664301755f, -0.002922830502f, 0.0005426077128f};
};
template <> struct cosine_third<doubles> {
    static constexpr double terms[] = {0.8660254037853484617,   0.1666666663583659652,    -0.04811250494607052837,
                                       0.02469096410636522759,  -0.01558735202099865646,  0.01094047037678276137,
                                       -0.008100658620249824265, 0.005991708419981903015, -0.004099184844047499521,
                                       0.002351214432894605814, -0.001008180243680595965, 0.0002774759027077969695,
                                       -0.00003602270789000462477};
};

// One Jacobi rotation of rows and columns p, q of a normal matrix a, and of the columns of v. A normal 2 x 2 block is a
// multiple of 1 plus a phase times a Hermitian matrix: its Hermitian and anti-Hermitian parts have the same
// eigenvectors, and the larger of the two gives them. The Hermitian part has to be larger than its rounding, which near
// the identity is larger than all that the anti-Hermitian part says. Lanes that are `done` are left as they are.
template <int N> INLINE void jacobi_rotation(Matrix<N>& a, Matrix<N>& v, int p, int q, mask_of<vec> done) {
    const real half = 0.5;
    const vec d_h = half * (a.re[p][p] - a.re[q][q]), d_a = half * (a.im[p][p] - a.im[q][q]);
    const vec re_h = half * (a.re[p][q] + a.re[q][p]), im_h = half * (a.im[p][q] - a.im[q][p]);
    const vec re_a = half * (a.im[p][q] + a.im[q][p]), im_a = half * (a.re[q][p] - a.re[p][q]);
    const vec r_h = re_h * re_h + im_h * im_h, r_a = re_a * re_a + im_a * im_a;
    const auto hermitian = d_h * d_h + r_h > d_a * d_a + r_a + traits<vec>::eps * traits<vec>::eps;
    const vec d = select(hermitian, d_h, d_a), re = select(hermitian, re_h, re_a), im = select(hermitian, im_h, im_a);
    const vec r = select(hermitian, r_h, r_a);
    // equal eigenvalues: any frame serves
    const vec square = d * d + r;
    const auto still = (square < splat<vec>(sizeof(real) == 4 ? 1e-30 : 1e-280)) | done;
    const vec h = square * reciprocal_sqrt(select(still, splat<vec>(1), square)), e = h + abs_(d);
    const vec k = reciprocal_sqrt(select(still, splat<vec>(1), 2 * h * e));
    const vec c = select(still, splat<vec>(1), e * k), size = select(still, vec{}, copysign_(k, d));
    const vec s_re = size * re, s_im = size * im;
    auto turn = [&](vec& p_re, vec& p_im, vec& q_re, vec& q_im, vec s_im) {
        const vec pr = p_re, pi = p_im, qr = q_re, qi = q_im;
        p_re = c * pr + s_re * qr + s_im * qi;
        p_im = c * pi + s_re * qi - s_im * qr;
        q_re = c * qr - s_re * pr + s_im * pi;
        q_im = c * qi - s_re * pi - s_im * pr;
    };
    for (int i = 0; i < N; i++) {
        turn(a.re[i][p], a.im[i][p], a.re[i][q], a.im[i][q], s_im);
        turn(v.re[i][p], v.im[i][p], v.re[i][q], v.im[i][q], s_im);
    }
    for (int i = 0; i < N; i++) turn(a.re[p][i], a.im[p][i], a.re[q][i], a.im[q][i], -s_im);
}

// What is left to do on a nearly diagonal normal matrix, to first order: v (1 + e) has the eigenvectors, e being
// anti-Hermitian. Of each 2 x 2 block the larger of the Hermitian and the anti-Hermitian part is taken, as above. False
// in lanes where an element of e is too large for that; what is small beside the largest element of a counts as 0 (when
// not `patient` any more, what is small beside 1). Of e the elements above the diagonal are set, and used.
template <int N> INLINE mask_of<vec> corrections(const Matrix<N>& a, bool patient, Matrix<N>& e) {
    constexpr real eps = traits<vec>::eps;
    vec norm = splat<vec>(patient ? 0 : 1);
    for (int i = 0; i < N; i++) norm = max_(norm, a.re[i][i] * a.re[i][i] + a.im[i][i] * a.im[i][i]);
    const vec noise = norm * (patient ? 4 * eps * eps : 16 * real(64 * 64 * N * N) * eps * eps);
    auto fine = norm == norm;
    for (int i = 0; i < N - 1; i++)
        for (int j = i + 1; j < N; j++) {
            const vec d_h = a.re[j][j] - a.re[i][i], d_a = a.im[j][j] - a.im[i][i];
            const vec re_h = a.re[i][j] + a.re[j][i], im_h = a.im[i][j] - a.im[j][i];
            const vec re_a = a.im[i][j] + a.im[j][i], im_a = a.re[j][i] - a.re[i][j];
            const vec r_h = re_h * re_h + im_h * im_h, r_a = re_a * re_a + im_a * im_a;
            const auto hermitian = d_h * d_h + r_h > d_a * d_a + r_a + 4 * eps * eps;
            const vec d = select(hermitian, d_h, d_a), r = select(hermitian, r_h, r_a);
            const auto small = r < 2 * eps * d * d;
            fine &= small | (r <= noise);
            const vec per = select(small, reciprocal(2 * d), vec{});
            e.re[i][j] = select(hermitian, re_h, re_a) * per;
            e.im[i][j] = select(hermitian, im_h, im_a) * per;
        }
    return fine;
}

template <int N> INLINE void correct(Matrix<N>& v, const Matrix<N>& e) {
    for (int i = 0; i < N; i++) {
        vec re[N], im[N];
        for (int k = 0; k < N; k++) {
            re[k] = v.re[i][k], im[k] = v.im[i][k];
            for (int j = 0; j < k; j++) {
                re[k] += v.re[i][j] * e.re[j][k] - v.im[i][j] * e.im[j][k];
                im[k] += v.re[i][j] * e.im[j][k] + v.im[i][j] * e.re[j][k];
            }
            for (int j = k + 1; j < N; j++) {
                re[k] -= v.re[i][j] * e.re[k][j] + v.im[i][j] * e.im[k][j];
                im[k] += v.re[i][j] * e.im[k][j] - v.im[i][j] * e.re[k][j];
            }
        }
        for (int k = 0; k < N; k++) v.re[i][k] = re[k], v.im[i][k] = im[k];
    }
}

// Turns a normal 3 x 3 matrix so that its first row and column are diagonal up to rounding, v with it: the eigenvector
// of the most isolated eigenvalue of its Hermitian or anti-Hermitian part, whichever is larger, is had in closed form
// (trigonometric solution of the cubic; adjugate), and a Householder reflection takes it to the first axis.
INLINE void isolate(Matrix<3>& a, Matrix<3>& v) {
    const real half = 0.5;
    vec d_h[3], d_a[3], re[3], im[3], re_a[3], im_a[3], p_h = {}, p_a = {};  // off-diagonal: 01, 02, 12
    const vec mean_h = (a.re[0][0] + a.re[1][1] + a.re[2][2]) * real(1.0 / 3);
    const vec mean_a = (a.im[0][0] + a.im[1][1] + a.im[2][2]) * real(1.0 / 3);
    for (int i = 0; i < 3; i++) {
        d_h[i] = a.re[i][i] - mean_h, d_a[i] = a.im[i][i] - mean_a;
        p_h += d_h[i] * d_h[i], p_a += d_a[i] * d_a[i];
    }
    for (int i = 0, k = 0; i < 3; i++)
        for (int j = i + 1; j < 3; j++, k++) {
            re[k] = half * (a.re[i][j] + a.re[j][i]), im[k] = half * (a.im[i][j] - a.im[j][i]);
            re_a[k] = half * (a.im[i][j] + a.im[j][i]), im_a[k] = half * (a.re[j][i] - a.re[i][j]);
            p_h += 2 * (re[k] * re[k] + im[k] * im[k]), p_a += 2 * (re_a[k] * re_a[k] + im_a[k] * im_a[k]);
        }
    const auto hermitian = p_h > p_a + 8 * traits<vec>::eps * traits<vec>::eps;
    const vec square = select(hermitian, p_h, p_a) * real(1.0 / 6);
    const auto still = square < splat<vec>(sizeof(real) == 4 ? 1e-30 : 1e-280);
    const vec per = reciprocal_sqrt(select(still, splat<vec>(1), square));
    vec d[3];
    for (int i = 0; i < 3; i++) {
        d[i] = per * select(hermitian, d_h[i], d_a[i]);
        re[i] = per * select(hermitian, re[i], re_a[i]), im[i] = per * select(hermitian, im[i], im_a[i]);
    }
    vec s[3];
    for (int i = 0; i < 3; i++) s[i] = re[i] * re[i] + im[i] * im[i];
    const vec loop_re = re[0] * re[2] - im[0] * im[2], loop_im = re[0] * im[2] + im[0] * re[2];  // 01 12
    const vec det = d[0] * (d[1] * d[2] - s[2]) - d[1] * s[1] - d[2] * s[0] + 2 * (loop_re * re[1] + loop_im * im[1]);
    const vec x = min_(abs_(det) * half, splat<vec>(1));
    const vec lambda = copysign_(2 * horner(x, cosine_third<vec>::terms), det);
    for (int i = 0; i < 3; i++) d[i] -= lambda;
    // the adjugate of what is left is a multiple of the projector on the eigenvector: its column of the largest diagonal
    const vec g0 = d[1] * d[2] - s[2], g1 = d[0] * d[2] - s[1], g2 = d[0] * d[1] - s[0];
    const vec re01 = re[1] * re[2] + im[1] * im[2] - re[0] * d[2], im01 = im[1] * re[2] - re[1] * im[2] - im[0] * d[2];
    const vec re02 = loop_re - re[1] * d[1], im02 = loop_im - im[1] * d[1];
    const vec re12 = re[1] * re[0] + im[1] * im[0] - re[2] * d[0], im12 = im[1] * re[0] - re[1] * im[0] - im[2] * d[0];
    const auto first = (g0 >= g1) & (g0 >= g2), second = g1 >= g2;
    auto column = [&](vec p, vec q, vec r) { return select(first, p, select(second, q, r)); };
    vec u_re[3] = {column(g0, re01, re02), column(re01, g1, re12), column(re02, re12, g2)};
    vec u_im[3] = {column(vec{}, im01, im02), column(-im01, vec{}, im12), column(-im02, -im12, vec{})};
    vec norm = {};
    for (int i = 0; i < 3; i++) norm += u_re[i] * u_re[i] + u_im[i] * u_im[i];
    const vec scale = reciprocal_sqrt(select(still, splat<vec>(1), norm));
    for (int i = 0; i < 3; i++) {
        u_re[i] = select(still, splat<vec>(i == 0), scale * u_re[i]);
        u_im[i] = select(still, vec{}, scale * u_im[i]);
    }
    // first element real and not negative; the reflection is 1 - b u u^dagger with u = eigenvector + first axis
    const vec size = u_re[0] * u_re[0] + u_im[0] * u_im[0];
    const auto flat = size < splat<vec>(1e-30);
    const vec inverse = reciprocal_sqrt(select(flat, splat<vec>(1), size));
    const vec turn_re = select(flat, splat<vec>(1), u_re[0] * inverse), turn_im = select(flat, vec{}, -u_im[0] * inverse);
    const vec top = select(flat, vec{}, size * inverse), b = reciprocal(1 + top);
    for (int i = 1; i < 3; i++) {
        const vec x_re = u_re[i] * turn_re - u_im[i] * turn_im;
        u_im[i] = u_re[i] * turn_im + u_im[i] * turn_re;
        u_re[i] = x_re;
    }
    u_re[0] = 1 + top, u_im[0] = vec{};
    for (int i = 0; i < 3; i++) {
        vec re_ = {}, im_ = {};  // b a u
        for (int j = 0; j < 3; j++) {
            re_ += a.re[i][j] * u_re[j] - a.im[i][j] * u_im[j];
            im_ += a.re[i][j] * u_im[j] + a.im[i][j] * u_re[j];
        }
        re_ *= b, im_ *= b;
        for (int j = 0; j < 3; j++) {
            a.re[i][j] -= re_ * u_re[j] + im_ * u_im[j];
            a.im[i][j] -= im_ * u_re[j] - re_ * u_im[j];
            v.re[i][j] = splat<vec>(i == j) - b * (u_re[i] * u_re[j] + u_im[i] * u_im[j]);
            v.im[i][j] = -b * (u_im[i] * u_re[j] - u_re[i] * u_im[j]);
        }
    }
    for (int j = 0; j < 3; j++) {
        vec re_ = {}, im_ = {};  // b u^dagger a
        for (int i = 0; i < 3; i++) {
            re_ += u_re[i] * a.re[i][j] + u_im[i] * a.im[i][j];
            im_ += u_re[i] * a.im[i][j] - u_im[i] * a.re[i][j];
        }
        re_ *= b, im_ *= b;
        for (int i = 0; i < 3; i++) {
            a.re[i][j] -= u_re[i] * re_ - u_im[i] * im_;
            a.im[i][j] -= u_re[i] * im_ + u_im[i] * re_;
        }
    }
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

// Rotates normal matrices to diagonal form, v with them, but for those that are `done`; returns which of all converged.
// What becomes of a matrix does not depend on the others. `last_pair_first`: the first sweep has the last pair alone.
template <int N> INLINE mask_of<vec> diagonalise(Matrix<N>& a, Matrix<N>& v, bool last_pair_first, mask_of<vec> done) {
    Matrix<N> e = {}, last = {};
    for (int sweep = 0; sweep < 24 && any(~done); sweep++) {
        for (int p = last_pair_first && sweep == 0 ? N - 2 : 0; p < N - 1; p++)
            for (int q = p + 1; q < N; q++) jacobi_rotation(a, v, p, q, done);
        const auto fine = corrections(a, sweep < (N == 3 ? 4 : 7), e);
        choose(fine & ~done, e, last);
        done |= fine;
    }
    correct(v, last);
    return done;
}

// Whether two eigenvalues are so close that rounding turns their eigenvectors.
template <int N> INLINE mask_of<vec> close(const Matrix<N>& a) {
    vec nearest = splat<vec>(1);
    for (int i = 0; i < N; i++)
        for (int j = i + 1; j < N; j++) {
            const vec x = a.re[i][i] - a.re[j][j], y = a.im[i][i] - a.im[j][j];
            nearest = min_(nearest, x * x + y * y);
        }
    return nearest < splat<vec>(1e-4);
}

// The diagonal of v^dagger a v for columns of v of length 1 up to rounding: without the rounding of many rotations.
template <int N> INLINE void quotients(const Matrix<N>& a, const Matrix<N>& v, Matrix<N>& diagonal) {
    Matrix<N> product;
    multiply(a, v, product);
    for (int k = 0; k < N; k++) {
        vec re = {}, im = {}, square = {};
        for (int i = 0; i < N; i++) {
            re += v.re[i][k] * product.re[i][k] + v.im[i][k] * product.im[i][k];
            im += v.re[i][k] * product.im[i][k] - v.im[i][k] * product.re[i][k];
            square += v.re[i][k] * v.re[i][k] + v.im[i][k] * v.im[i][k];
        }
        diagonal.re[k][k] = re * (2 - square);
        diagonal.im[k][k] = im * (2 - square);
    }
}

// w = z v diag(exp(i phase)) v^dagger with z in the centre, phases sorted in [-pi, pi], v unitary. On return the diagonal
// of `rest` holds that of v^dagger (w / z - 1) v. False where a matrix is too far from unitary to converge, or not finite.
template <int N> INLINE bool decompose(const Matrix<N>& w, Centre<N>& z, Matrix<N>& rest, Matrix<N>& v, vec (&phase)[N]) {
    // Of w / z - 1 rather than w: near the centre its anti-Hermitian part keeps the relative precision of the phases.
    z = nearest_centre(w);
    Matrix<N> shifted;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            const vec re = i == j ? w.re[i][j] - z.re : w.re[i][j], im = i == j ? w.im[i][j] - z.im : w.im[i][j];
            shifted.re[i][j] = re * z.re + im * z.im;
            shifted.im[i][j] = im * z.re - re * z.im;
            v.re[i][j] = splat<vec>(i == j), v.im[i][j] = vec{};
        }
    rest = shifted;
    if constexpr (N == 3) isolate(rest, v);
    auto converged = diagonalise(rest, v, N == 3, mask_of<vec>{});
    const auto again = close(rest) & converged;
    if (sizeof(real) == 4 && N > 2 && any(again)) {
        // once more from the input, without the rounding of all rotations before
        Matrix<N> product, turned, better = v;
        orthonormalise(better);
        multiply(shifted, better, product);
        multiply<N, true>(better, product, turned);
        choose(again, better, v);
        choose(again, turned, rest);
        converged &= diagonalise(rest, v, false, ~again);
    }
    if constexpr (sizeof(real) == 4 && N > 4) quotients(shifted, v, rest);
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
    return !any(~converged);
}
