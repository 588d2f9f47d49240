// circular_spline for CPUs: a block of angles at a time, one a lane.
#include <vector>

#include "parameters.hpp"
#include "spline.hpp"

namespace {

using Tile = std::vector<vec>;

// The representative in [-pi, pi).
INLINE vec wrap(vec a) {
    using C = coefficients<vec>;
    const vec q = (a + real(PI)) * real(0.5 / PI), nearest = (q + C::round) - C::round;
    return a - real(2 * PI) * select(nearest > q, nearest - 1, nearest);
}

template <class T> INLINE Raw<T> circle(T* raw, int bins) {
    return {raw, raw + bins, raw + 2 * bins, raw + 2 * bins + 1, raw + 2 * bins};
}

// The spline at an angle, or at the image of one.
template <bool inverse>
INLINE void put(Spline<vec, false, inverse>& f, vec angle, const vec* raw, int bins, vec* shares_) {
    if (inverse) angle = wrap(angle - raw[3 * bins]);
    const vec x = real(0.5) + angle * real(0.5 / PI), rest = real(0.5) - angle * real(0.5 / PI);
    f.locate(circle(raw, bins), splat<vec>(1), bins, x, rest, shares_);
}

template <bool inverse> int64_t forward(const real* angle, Parameters<const real> params, int64_t total, int bins,
                                        real* step, real* logdet, int threads) {
    const int width = 3 * bins + 1;
    auto body = [=, raw = Tile(width), shares_ = Tile(2 * bins)](int64_t m, int count) mutable {
        const vec from = load_lanes(angle + m, count);
        load_parameters(params, m, count, width, raw.data());
        Spline<vec, false, inverse> f;
        put(f, from, raw.data(), bins, shares_.data());
        const vec to = real(2 * PI) * f.to() - real(PI), log_slope = log_(f.slope());
        store_part(step + m, count, wrap((inverse ? to : to + raw[width - 1]) - from));
        store_part(logdet + m, count, inverse ? -log_slope : log_slope);
        return true;
    };
    return for_blocks(total, threads, body);
}

template <bool inverse> int64_t backward(const real* angle, Parameters<const real> params, const real* grad_step,
                                         const real* grad_logdet, int64_t total, int bins, real* grad_angle,
                                         Parameters<real> grad_params, int threads) {
    const int width = 3 * bins + 1;
    auto body = [=, raw = Tile(width), g_raw = Tile(width), shares_ = Tile(2 * bins)](int64_t m, int count) mutable {
        load_parameters(params, m, count, width, raw.data());
        Spline<vec, false, inverse> f;
        put(f, load_lanes(angle + m, count), raw.data(), bins, shares_.data());
        const vec g = load_lanes(grad_step + m, count), g_log = load_lanes(grad_logdet + m, count);
        Cotangent<vec> c{real(2 * PI) * g, vec{}, vec{}, g_log};
        const vec g_at = f.along(c, bins) * real(0.5 / PI);  // the spline takes points in turns
        g_raw[2 * bins] = vec{};
        f.along_parameters(c, bins, circle<const vec>(raw.data(), bins), shares_.data(), circle(g_raw.data(), bins));
        g_raw[width - 1] = inverse ? -g_at : g;
        store_part(grad_angle + m, count, g_at - g);
        store_parameters(grad_params, m, count, width, g_raw.data());
        return true;
    };
    return for_blocks(total, threads, body);
}

}  // namespace

// Strides in numbers.
extern "C" int64_t circular_spline(const real* angle, const real* params, int64_t outer_stride, int64_t row_stride,
                                   int64_t stride, int64_t outer, int64_t rows, int64_t bins, int64_t inverse,
                                   real* step, real* logdet, int64_t threads) {
    const Parameters<const real> p{params, rows, outer_stride, row_stride, stride};
    return (inverse ? forward<true> : forward<false>)(angle, p, outer * rows, bins, step, logdet, threads);
}

extern "C" int64_t circular_spline_backward(const real* angle, const real* params, int64_t outer_stride,
                                            int64_t row_stride, int64_t stride, const real* grad_step,
                                            const real* grad_logdet, int64_t outer, int64_t rows, int64_t bins,
                                            int64_t inverse, real* grad_angle, real* grad_params,
                                            int64_t grad_outer_stride, int64_t grad_row_stride, int64_t grad_stride,
                                            int64_t threads) {
    const Parameters<const real> p{params, rows, outer_stride, row_stride, stride};
    const Parameters<real> q{grad_params, rows, grad_outer_stride, grad_row_stride, grad_stride};
    return (inverse ? backward<true> : backward<false>)(angle, p, grad_step, grad_logdet, outer * rows, bins, grad_angle,
                                                        q, threads);
}
