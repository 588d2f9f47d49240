// spectral_flow for CPUs: a block of matrices at a time, one a lane, everything between W and g in registers and cache.
#include <vector>

#include "matrices.hpp"
#include "parameters.hpp"
#include "phases.hpp"

constexpr int N = SIZE;

namespace {

using Tile = std::vector<vec>;

// exp(i shift / 2), and v diag(exp(i shift)) v^dagger
INLINE void half_turns(const vec (&shift)[N], vec (&re)[N], vec (&im)[N]) {
    for (int k = 0; k < N; k++) sincos_(shift[k] * real(0.5), im[k], re[k]);
}

INLINE void move_frame(const Matrix<N>& v, const vec (&half_re)[N], const vec (&half_im)[N], Matrix<N>& g) {
    Matrix<N> turned;
    for (int k = 0; k < N; k++) {
        const vec re = half_re[k] * half_re[k] - half_im[k] * half_im[k], im = 2 * half_re[k] * half_im[k];
        for (int i = 0; i < N; i++) {
            turned.re[i][k] = v.re[i][k] * re - v.im[i][k] * im;
            turned.im[i][k] = v.re[i][k] * im + v.im[i][k] * re;
        }
    }
    multiply<N, false, true>(turned, v, g);
}

template <bool inverse> int64_t forward(const real* w, Parameters<const real> params, int64_t total, int bins, real* g,
                                        real* logdet, int threads) {
    return for_blocks(total, threads, [=] {
        const int width = Phases<vec, N, inverse>::n_params(bins);
        return [=, raw = Tile(width), shares = Tile(2 * bins * (N - 1))](int64_t m, int count) mutable {
            Matrix<N> loop, rest, v, out;
            Centre<N> z;
            vec phase[N], shift[N], re[N], im[N];
            load_matrices(w + m * 2 * N * N, count, loop);
            prefetch(w + (m + L) * 2 * N * N, L * 2 * N * N);
            prefetch_parameters(params, m + L, width);
            const bool ok = decompose(loop, z, rest, v, phase);
            load_parameters(params, m, count, width, raw.data());
            Phases<vec, N, inverse> phases;
            phases.set_gaps(phase, z.k);
            phases.map(raw.data(), bins, shares.data());
            phases.arcs(false);
            phases.shifts(shift);
            half_turns(shift, re, im);
            if (sizeof(real) == 4 && N > 2) orthonormalise(v);
            move_frame(v, re, im, out);
            store_matrices(g + m * 2 * N * N, count, out);
            store_lanes(logdet + m, count, phases.logdet());
            return ok ? 0 : 1;
        };
    });
}

// Where three phases meet, as near the identity, the derivatives of the phases are computed in double.
template <bool inverse> void backward_in_double(const vec (&phase)[N], mask_of<vec> centre, const vec (&g_shift)[N], vec g_logdet,
                                                const Tile& raw, int bins, vec (&g_phase)[N], Tile& g_raw) {
    constexpr int half = lanes<doubles>;
    std::vector<doubles> raw_(raw.size()), g_raw_(raw.size()), shares(2 * bins * (N - 1));
    for (int first = 0; first < L; first += half) {
        auto widen = [&](vec from, doubles& to) {
            for (int l = 0; l < half; l++) to[l] = from[first + l];
        };
        auto narrow = [&](doubles from, vec& to) {
            for (int l = 0; l < half; l++) to[first + l] = from[l];
        };
        doubles phase_[N], g_shift_[N], g_phase_[N], g_logdet_;
        for (int k = 0; k < N; k++) widen(phase[k], phase_[k]), widen(g_shift[k], g_shift_[k]);
        for (size_t k = 0; k < raw.size(); k++) widen(raw[k], raw_[k]);
        widen(g_logdet, g_logdet_);
        mask_of<doubles> centre_;
        for (int l = 0; l < half; l++) centre_[l] = centre[first + l];
        Phases<doubles, N, inverse> phases;
        phases.set_gaps(phase_, centre_);
        phases.map(raw_.data(), bins, shares.data());
        phases.arcs(true);
        phases.backward(g_shift_, g_logdet_, raw_.data(), bins, shares.data(), g_phase_, g_raw_.data());
        for (int k = 0; k < N; k++) narrow(g_phase_[k], g_phase[k]);
        for (size_t k = 0; k < raw.size(); k++) narrow(g_raw_[k], g_raw[k]);
    }
}

template <bool inverse> int64_t backward(const real* w, Parameters<const real> params, const real* grad_g,
                                         const real* grad_logdet, int64_t total, int bins, real* grad_w,
                                         Parameters<real> grad_params, int threads) {
    return for_blocks(total, threads, [=] {
        const int width = Phases<vec, N, inverse>::n_params(bins);
        return [=, raw = Tile(width), g_raw = Tile(width), shares = Tile(2 * bins * (N - 1))](int64_t m,
                                                                                             int count) mutable {
            Matrix<N> loop, rest, v, grad, product;
            Centre<N> z;
            vec phase[N], shift[N], re[N], im[N], g_shift[N], g_phase[N];
            load_matrices(w + m * 2 * N * N, count, loop);
            prefetch(w + (m + L) * 2 * N * N, L * 2 * N * N);
            prefetch(grad_g + (m + L) * 2 * N * N, L * 2 * N * N);
            prefetch_parameters(params, m + L, width);
            const bool ok = decompose(loop, z, rest, v, phase);
            load_parameters(params, m, count, width, raw.data());
            Phases<vec, N, inverse> phases;
            phases.set_gaps(phase, z.k);
            phases.map(raw.data(), bins, shares.data());
            phases.arcs(true);
            phases.shifts(shift);
            half_turns(shift, re, im);

            load_matrices(grad_g + m * 2 * N * N, count, grad);
            multiply(grad, v, product);
            multiply<N, true>(v, product, grad);
            for (int k = 0; k < N; k++) {
                const vec c = re[k] * re[k] - im[k] * im[k], s = 2 * re[k] * im[k];
                g_shift[k] = grad.im[k][k] * c - grad.re[k][k] * s;
            }
            const vec g_logdet = load_lanes(grad_logdet + m, count);
            if (sizeof(real) == 4 && phases.crowded())
                backward_in_double<inverse>(phase, z.k, g_shift, g_logdet, raw, bins, g_phase, g_raw);
            else
                phases.backward(g_shift, g_logdet, raw.data(), bins, shares.data(), g_phase, g_raw.data());
            store_parameters(grad_params, m, count, width, g_raw.data());

            // How the frame turns with W: divided differences, as ratios of sines.
            for (int i = 0, p = 0; i < N; i++)
                for (int j = i + 1; j < N; j++, p++) {
                    const vec new_cosine =
                        select(phases.between[p] == phases.new_between[p], phases.new_cosine[p], -phases.new_cosine[p]);
                    const vec ratio =
                        phases.new_sine[p] * phases.cosine[p] * reciprocal(phases.sine[p]) - new_cosine;
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
            // W v = v (z + rest)
            for (int i = 0; i < N; i++) {
                const vec c = z.re + rest.re[i][i], s = z.im + rest.im[i][i];
                for (int j = 0; j < N; j++) {
                    const vec x = grad.re[i][j], y = grad.im[i][j];
                    grad.re[i][j] = c * x - s * y;
                    grad.im[i][j] = c * y + s * x;
                }
            }
            multiply(v, grad, product);
            multiply<N, false, true>(product, v, grad);
            store_matrices(grad_w + m * 2 * N * N, count, grad);
            return ok ? 0 : 1;
        };
    });
}

}  // namespace

// Both return the number of blocks with a matrix that is not finite or not unitary. Strides in numbers.
extern "C" int64_t spectral_flow(const real* w, const real* params, int64_t outer_stride, int64_t row_stride,
                                 int64_t stride, int64_t outer, int64_t rows, int64_t bins, int64_t inverse, real* g,
                                 real* logdet, int64_t threads) {
    const Parameters<const real> p{params, rows, outer_stride, row_stride, stride};
    return (inverse ? forward<true> : forward<false>)(w, p, outer * rows, bins, g, logdet, threads);
}

extern "C" int64_t spectral_flow_backward(const real* w, const real* params, int64_t outer_stride, int64_t row_stride,
                                          int64_t stride, const real* grad_g, const real* grad_logdet, int64_t outer,
                                          int64_t rows, int64_t bins, int64_t inverse, real* grad_w, real* grad_params,
                                          int64_t grad_outer_stride, int64_t grad_row_stride, int64_t grad_stride,
                                          int64_t threads) {
    const Parameters<const real> p{params, rows, outer_stride, row_stride, stride};
    const Parameters<real> q{grad_params, rows, grad_outer_stride, grad_row_stride, grad_stride};
    return (inverse ? backward<true> : backward<false>)(w, p, grad_g, grad_logdet, outer * rows, bins, grad_w, q,
                                                        threads);
}
