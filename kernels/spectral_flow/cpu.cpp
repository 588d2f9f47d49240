// spectral_flow for CPUs: a block of matrices at a time, one a lane, everything between W and g in registers and cache.
#include <vector>

#include "frames.hpp"
#include "parameters.hpp"

constexpr int N = SIZE, WIDTH = 2 * N * N;

namespace {

using Tile = std::vector<vec>;

// The phases in double precision, half of the lanes at a time, for the lanes for which single precision does not do.
template <bool inverse> struct Doubled {
    static constexpr int half = lanes<doubles>;
    Phases<doubles, N, inverse> phases;
    std::vector<doubles> raw, g_raw, shares;

    Doubled(int width, int bins) : raw(width), g_raw(width), shares(2 * bins * (N - 1)) {}

    static INLINE void widen(vec from, int first, doubles& to) {
        for (int l = 0; l < half; l++) to[l] = from[first + l];
    }
    static INLINE void narrow(doubles from, int first, mask_of<vec> chosen, vec& to) {
        for (int l = 0; l < half; l++)
            if (chosen[first + l]) to[first + l] = from[l];
    }

    INLINE void map(const Frame<N>& frame, const Tile& raw_, int bins, int first, bool cosines) {
        doubles phase[N];
        mask_of<doubles> centre;
        for (int k = 0; k < N; k++) widen(frame.phase[k], first, phase[k]);
        for (int l = 0; l < half; l++) centre[l] = frame.z.k[first + l];
        for (size_t k = 0; k < raw.size(); k++) widen(raw_[k], first, raw[k]);
        phases.map(phase, centre, raw.data(), bins, shares.data(), cosines);
    }

    INLINE void forward(const Frame<N>& frame, const Tile& raw_, int bins, mask_of<vec> chosen, vec (&shift)[N],
                        vec& logdet) {
        for (int first = 0; first < L; first += half) {
            doubles shift_[N];
            map(frame, raw_, bins, first, false);
            phases.shifts(shift_);
            for (int k = 0; k < N; k++) narrow(shift_[k], first, chosen, shift[k]);
            narrow(phases.logdet(), first, chosen, logdet);
        }
    }

    INLINE void backward(const Frame<N>& frame, const Tile& raw_, int bins, mask_of<vec> chosen,
                         const vec (&g_shift)[N], vec g_logdet, vec (&g_phase)[N], Tile& g_raw_) {
        for (int first = 0; first < L; first += half) {
            doubles g_shift_[N], g_phase_[N], g_logdet_;
            map(frame, raw_, bins, first, true);
            for (int k = 0; k < N; k++) widen(g_shift[k], first, g_shift_[k]);
            widen(g_logdet, first, g_logdet_);
            phases.backward(g_shift_, g_logdet_, raw.data(), bins, shares.data(), g_phase_, g_raw.data());
            for (int k = 0; k < N; k++) narrow(g_phase_[k], first, chosen, g_phase[k]);
            for (size_t k = 0; k < raw.size(); k++) narrow(g_raw[k], first, chosen, g_raw_[k]);
        }
    }
};

template <bool inverse> int64_t forward(const real* w, Parameters<const real> params, int64_t total, int bins, real* g,
                                        real* logdet, real* frames, int threads) {
    // the log-determinant sums over pairs of phases: of many, rounding would show
    constexpr bool in_double = sizeof(real) == 4 && N > 4;
    const int width = Phases<vec, N, inverse>::n_params(bins);
    auto body = [=, raw = Tile(width), shares = Tile(2 * bins * (N - 1)), doubled = Doubled<inverse>(width, bins)](
                    int64_t m, int count) mutable {
        Matrix<N> matrix;
        vec shift[N], log_det;
        load_matrices(w + m * WIDTH, count, matrix);
        prefetch(w + (m + L) * WIDTH, L * WIDTH);
        Frame<N> frame;
        const bool ok = frame.of(matrix);
        load_parameters(params, m, count, width, raw.data());
        if constexpr (in_double) {
            doubled.forward(frame, raw, bins, ~mask_of<vec>{}, shift, log_det);
        } else {
            Phases<vec, N, inverse> phases;
            phases.map(frame.phase, frame.z.k, raw.data(), bins, shares.data(), false);
            phases.shifts(shift);
            log_det = phases.logdet();
        }
        frame.set_shift(shift);
        frame.displacement(matrix);
        if (frames) frame.keep(frames + m * Frame<N>::SIZE_KEPT);
        store_matrices(g + m * WIDTH, count, matrix);
        store_part(logdet + m, count, log_det);
        return ok;
    };
    return for_blocks(total, threads, body);
}

template <bool inverse> int64_t backward(const real* w, Parameters<const real> params, const real* frames, const real* grad_g,
                                         const real* grad_logdet, int64_t total, int bins, real* grad_w,
                                         Parameters<real> grad_params, int threads) {
    const int width = Phases<vec, N, inverse>::n_params(bins);
    auto body = [=, raw = Tile(width), g_raw = Tile(width), shares = Tile(2 * bins * (N - 1)),
                 doubled = Doubled<inverse>(width, bins)](int64_t m, int count) mutable {
        Matrix<N> matrix;
        vec shift[N], g_shift[N], g_phase[N];
        Frame<N> frame;
        bool ok = true;
        if (frames) {
            frame.restore(frames + m * Frame<N>::SIZE_KEPT);
        } else {
            load_matrices(w + m * WIDTH, count, matrix);
            prefetch(w + (m + L) * WIDTH, L * WIDTH);
            ok = frame.of(matrix);
        }
        prefetch(grad_g + (m + L) * WIDTH, L * WIDTH);
        load_parameters(params, m, count, width, raw.data());
        Phases<vec, N, inverse> phases;
        phases.map(frame.phase, frame.z.k, raw.data(), bins, shares.data(), true);
        phases.shifts(shift);
        const auto crowded = phases.crowded();
        const bool in_double = sizeof(real) == 4 && any(crowded);
        if (in_double) {
            vec unused;
            doubled.forward(frame, raw, bins, crowded, shift, unused);
        }
        frame.set_shift(shift);
        load_matrices(grad_g + m * WIDTH, count, matrix);
        frame.along_shift(matrix, g_shift);
        const vec g_logdet = load_lanes(grad_logdet + m, count);
        phases.backward(g_shift, g_logdet, raw.data(), bins, shares.data(), g_phase, g_raw.data());
        if (in_double) doubled.backward(frame, raw, bins, crowded, g_shift, g_logdet, g_phase, g_raw);
        store_parameters(grad_params, m, count, width, g_raw.data());
        frame.along_w(phases, g_phase, matrix);
        store_matrices(grad_w + m * WIDTH, count, matrix);
        return ok;
    };
    return for_blocks(total, threads, body);
}

}  // namespace

// Both return the number of blocks with a matrix that is not finite or not unitary. Strides in numbers. `frames` keeps the
// eigenvectors of the forward pass for the backward pass, or is null: then they are computed again.
extern "C" int64_t spectral_flow(const real* w, const real* params, int64_t outer_stride, int64_t row_stride,
                                 int64_t stride, int64_t outer, int64_t rows, int64_t bins, int64_t inverse, real* g,
                                 real* logdet, real* frames, int64_t threads) {
    const Parameters<const real> p{params, rows, outer_stride, row_stride, stride};
    return (inverse ? forward<true> : forward<false>)(w, p, outer * rows, bins, g, logdet, frames, threads);
}

extern "C" int64_t spectral_flow_backward(const real* w, const real* params, int64_t outer_stride, int64_t row_stride,
                                          int64_t stride, const real* frames, const real* grad_g,
                                          const real* grad_logdet, int64_t outer,
                                          int64_t rows, int64_t bins, int64_t inverse, real* grad_w, real* grad_params,
                                          int64_t grad_outer_stride, int64_t grad_row_stride, int64_t grad_stride,
                                          int64_t threads) {
    const Parameters<const real> p{params, rows, outer_stride, row_stride, stride};
    const Parameters<real> q{grad_params, rows, grad_outer_stride, grad_row_stride, grad_stride};
    return (inverse ? backward<true> : backward<false>)(w, p, frames, grad_g, grad_logdet, outer * rows, bins, grad_w, q,
                                                        threads);
}
