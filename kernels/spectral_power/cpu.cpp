// spectral_power for CPUs: a block of matrices at a time, one a lane.
#include "parameters.hpp"
#include "unitary.hpp"

constexpr int N = SIZE, WIDTH = 2 * N * N;

namespace {

// Phases of the matrix z v diag(exp(i phase)) v^dagger, z = exp(2 pi i k / N) and the phases sorted in [-pi, pi],
// column by column of v: those of the alcove are the same circle cut elsewhere, so that the gaps are taken before z is
// put back, and near every element of the centre keep their relative precision.
struct Alcove {
    Matrix<N> v;
    vec phase[N], gap[N];  // gaps upwards from each phase, the last one closing the circle
    mask_of<vec> turns[N];

    // False where a matrix is not finite or not unitary.
    INLINE bool of(const real* w, int count) {
        using M = mask_of<vec>;
        Matrix<N> matrix, rest;
        Centre<N> z;
        vec sorted[N];
        load_matrices(w, count, matrix);
        const bool ok = nearly_unitary(matrix) && decompose(matrix, z, rest, v, sorted);
        vec sum = sorted[0];
        for (int k = 1; k < N; k++) sum += sorted[k];
        const vec shifted = sum * real(0.5 / PI) + coefficients<vec>::round;  // nearest integer, in the low bits
        const M winding = (M)shifted - (M)splat<vec>(coefficients<vec>::round) + z.k;
        for (int k = 0; k < N; k++) {
            const M x = winding + k;
            turns[k] = -1 - (M)(x >= 0) - (M)(x >= N) - (M)(x >= 2 * N);  // floor(x / N); a comparison is -1 or 0
            phase[k] = sorted[k] + real(2 * PI / N) * __builtin_convertvector(z.k - N * turns[k], vec);
            const vec up = sorted[(k + 1) % N] - sorted[k];
            gap[k] = max_(k + 1 < N ? up : real(2 * PI) + up, splat<vec>(traits<vec>::eps));
        }
        return ok;
    }

    // |phase[i] - phase[j]|, i < j, and what is left of the circle, both as sums of gaps.
    INLINE void arcs(int i, int j, vec& arc, vec& rest) const {
        vec up = gap[i], around = gap[N - 1];
        for (int k = i + 1; k < j; k++) up += gap[k];
        for (int k = j; k < N - 1; k++) around += gap[k];
        for (int k = 0; k < i; k++) around += gap[k];
        const auto same = turns[i] == turns[j];
        arc = select(same, up, around);
        rest = select(same, around, up);
    }
};

INLINE vec load_exponents(const real* exponent, int64_t stride, int64_t m, int count) {
    if (stride == 0) return splat<vec>(*exponent);
    vec s;
    for (int l = 0; l < L; l++) s[l] = exponent[(m + std::min(l, count - 1)) * stride];
    return s;
}

// sin(pi s) and cos(pi s), exact for integers
INLINE void sincos_of_turns(vec s, vec& sine, vec& cosine) {
    const vec shifted = s + coefficients<vec>::round, nearest = shifted - coefficients<vec>::round;
    sincos_((s - nearest) * real(PI), sine, cosine);
    const auto odd = ((mask_of<vec>)shifted & 1) != 0;
    sine = select(odd, -sine, sine);
    cosine = select(odd, -cosine, cosine);
}

// sin(s arc / 2) / sin(arc / 2), from the shorter of the arc and the rest of the circle
INLINE vec ratio_of_sines(vec s, vec turn_sine, vec turn_cosine, vec arc, vec rest) {
    const auto inner = arc <= rest;
    const vec half = real(0.5) * select(inner, arc, rest);
    vec sine, cosine, below, unused;
    sincos_(s * half, sine, cosine);
    sincos_(half, below, unused);
    return select(inner, sine, turn_sine * cosine - turn_cosine * sine) * reciprocal(below);
}

}  // namespace

// Both return the number of blocks with a matrix that is not finite or not unitary. The stride is in numbers.
extern "C" int64_t spectral_power(const real* w, const real* exponent, int64_t stride, int64_t total, real* power,
                                  int64_t threads) {
    return for_blocks(total, threads, [=](int64_t m, int count) {
        Matrix<N> out;
        Alcove alcove;
        vec re[N], im[N];
        const bool ok = alcove.of(w + m * WIDTH, count);
        const vec s = load_exponents(exponent, stride, m, count);
        for (int k = 0; k < N; k++) sincos_(s * alcove.phase[k], im[k], re[k]);
        if (N > 2) orthonormalise(alcove.v);
        rebuild(alcove.v, re, im, out);
        store_matrices(power + m * WIDTH, count, out);
        return ok;
    });
}

extern "C" int64_t spectral_power_backward(const real* w, const real* exponent, int64_t stride, const real* grad_power,
                                           int64_t total, real* grad_w, int64_t threads) {
    return for_blocks(total, threads, [=](int64_t m, int count) {
        Matrix<N> grad, y, product;
        Alcove alcove;
        vec half_re[N], half_im[N], re[N], im[N], turn_sine, turn_cosine;
        const bool ok = alcove.of(w + m * WIDTH, count);
        const auto& v = alcove.v;
        const vec s = load_exponents(exponent, stride, m, count);
        sincos_of_turns(s, turn_sine, turn_cosine);
        for (int k = 0; k < N; k++) {
            sincos_(alcove.phase[k] * real(0.5), half_im[k], half_re[k]);
            sincos_(alcove.phase[k] * real(0.5) * s, im[k], re[k]);
        }
        load_matrices(grad_power + m * WIDTH, count, grad);
        multiply(grad, v, product);
        multiply<N, true>(v, product, y);

        // x = ratio (e - e^dagger) / 2, e_ij = exp(-i s (phase_i + phase_j) / 2) y_ij, stored over y
        vec trace = {};
        for (int i = 0; i < N; i++) {
            const vec c = re[i] * re[i] - im[i] * im[i], d = 2 * re[i] * im[i];
            y.im[i][i] = s * (c * y.im[i][i] - d * y.re[i][i]);
            y.re[i][i] = vec{};
            trace += y.im[i][i];
            for (int j = i + 1; j < N; j++) {
                vec arc, around;
                alcove.arcs(i, j, arc, around);
                const vec ratio = real(0.5) * ratio_of_sines(s, turn_sine, turn_cosine, arc, around);
                const vec mean_re = re[i] * re[j] - im[i] * im[j], mean_im = re[i] * im[j] + im[i] * re[j];
                const vec sum_re = y.re[i][j] + y.re[j][i], sum_im = y.im[i][j] + y.im[j][i];
                const vec gap_re = y.re[i][j] - y.re[j][i], gap_im = y.im[i][j] - y.im[j][i];
                y.re[i][j] = ratio * (mean_re * gap_re + mean_im * gap_im);
                y.im[i][j] = ratio * (mean_re * sum_im - mean_im * sum_re);
                y.re[j][i] = -y.re[i][j];
                y.im[j][i] = y.im[i][j];
            }
        }
        trace *= real(1.0 / N);
        for (int i = 0; i < N; i++) y.im[i][i] -= trace;

        // v u x u v^dagger, u = diag(exp(i phase / 2))
        scale_columns(v, half_re, half_im, product);
        multiply(product, y, grad);
        for (int k = 0; k < N; k++) half_im[k] = -half_im[k];
        scale_columns(v, half_re, half_im, y);
        multiply<N, false, true>(grad, y, product);
        store_matrices(grad_w + m * WIDTH, count, product);
        return ok;
    });
}
