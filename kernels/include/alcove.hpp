// The eigenphases of SU(N) matrices in the Weyl alcove, kernels/spectrum.py on lanes, and matrices rebuilt from them.
#pragma once
#include "unitary.hpp"

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

// Phases of the matrix z v diag(exp(i phase)) v^dagger, z = exp(2 pi i centre / N) and the phases sorted in [-pi, pi],
// column by column of v: those of the alcove are the same circle cut elsewhere, so that the gaps are taken before z is
// put back, and near every element of the centre keep their relative precision.
template <int N> struct Alcove {
    vec phase[N], gap[N];  // gaps upwards from each phase, the last one closing the circle
    mask_of<vec> turns[N];

    INLINE void set(const vec (&sorted)[N], mask_of<vec> centre) {
        using M = mask_of<vec>;
        vec sum = sorted[0];
        for (int k = 1; k < N; k++) sum += sorted[k];
        const vec shifted = sum * real(0.5 / PI) + coefficients<vec>::round;  // nearest integer, in the low bits
        const M winding = (M)shifted - (M)splat<vec>(coefficients<vec>::round) + centre;
        for (int k = 0; k < N; k++) {
            const M x = winding + k;
            turns[k] = -1 - (M)(x >= 0) - (M)(x >= N) - (M)(x >= 2 * N);  // floor(x / N); a comparison is -1 or 0
            phase[k] = sorted[k] + real(2 * PI / N) * __builtin_convertvector(centre - N * turns[k], vec);
            const vec up = sorted[(k + 1) % N] - sorted[k];
            gap[k] = max_(k + 1 < N ? up : real(2 * PI) + up, splat<vec>(traits<vec>::eps));
        }
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

// v diag(c), and v diag(c) v^dagger
template <int N> INLINE void scale_columns(const Matrix<N>& v, const vec (&re)[N], const vec (&im)[N], Matrix<N>& out) {
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++) {
            out.re[i][k] = v.re[i][k] * re[k] - v.im[i][k] * im[k];
            out.im[i][k] = v.re[i][k] * im[k] + v.im[i][k] * re[k];
        }
}

template <int N> INLINE void rebuild(const Matrix<N>& v, const vec (&re)[N], const vec (&im)[N], Matrix<N>& out) {
    Matrix<N> scaled;
    scale_columns(v, re, im, scaled);
    multiply<N, false, true>(scaled, v, out);
}
