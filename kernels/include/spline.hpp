// A monotone rational-quadratic spline at one point, and its derivatives: kernels/splines.py on lanes.
//
// With t = (x - start) / size, u = 1 - t, s = target / size, D = s + (low + high - 2 s) t u:
//     y      = new_start + target t (s t + low u) / D        1 - y = new_end + target u (s u + high t) / D
//     dy/dx  = s^2 Q / D^2,   Q = high t^2 + 2 s t u + low u^2
// What a flow needs of a spline is y, log dy/dx, and the two ratios y / x and (1-y) / (1-x). Their logarithms are
// differentiated as such: near an end of the interval the derivatives of y and of x alone diverge, theirs do not.
#pragma once
#include "elementary.hpp"

constexpr double MIN_BIN = 1e-2, MIN_SLOPE = 1e-2, SCALE = 0.25, UNIT = 0.5254587192925021;

// Where the unconstrained numbers of one spline lie in a tile. Both end slopes can be one number.
template <class T> struct Raw {
    T *widths, *heights, *first_slope, *inner_slopes, *last_slope;
};

// Derivatives of a loss with respect to y, log(y / x), log((1-y) / (1-x)) and log dy/dx.
template <class V> struct Cotangent {
    V y, ratio, rest_ratio, log_slope;
};

// log(1 + exp(x)) and its derivative
template <class V> INLINE void softplus(V x, V& value, V& derivative) {
    const V e = exp2_(abs_(x) * scalar_of<V>(-LOG2_E));
    value = max_(x, V{}) + log1p_(e);
    derivative = select<V>(x > 0, splat<V>(1), e) * reciprocal(1 + e);
}

// room * softmax(factor * raw): the sizes of the bins, less MIN_BIN
template <class V> INLINE void shares(const V* raw, V factor, int bins, V* share) {
    V top = raw[0], sum = {};
    for (int j = 1; j < bins; j++) top = max_(top, raw[j]);
    factor *= scalar_of<V>(LOG2_E);  // powers of 2 are cheaper than those of e
    top *= factor;
    for (int j = 0; j < bins; j++) sum += share[j] = exp2_(factor * raw[j] - top);
    sum = scalar_of<V>(1 - bins * MIN_BIN) * reciprocal(sum);
    for (int j = 0; j < bins; j++) share[j] *= sum;
}

// `ratios`: whether the two ratios are wanted; the circle has no ends. `inverse`: the point is one of the image.
template <class V, bool ratios, bool inverse> struct Spline {
    V factor;                                     // SCALE times the scale of the parameters
    V start, size, end, new_start, target, new_end, raw_low, raw_high, low_rise, high_rise, index;
    mask_of<V> far;                               // whether the point lies in the upper half
    V t, u, s, low, high, bend, per_size, per_D, Q, m, m_rest;  // m = s t + low u, m_rest = s u + high t

    // At a point and its distance from 1; fills shares[2 bins].
    INLINE void locate(const Raw<const V>& raw, V scale, int bins, V at, V rest, V* shares_) {
        using S = scalar_of<V>;
        factor = scale * S(SCALE);
        V *w = shares_, *h = shares_ + bins;
        shares(raw.widths, factor, bins, w);
        shares(raw.heights, factor, bins, h);
        V edge = {}, new_edge = {};
        start = new_start = end = new_end = index = V{};
        size = w[0], target = h[0];
        raw_low = *raw.first_slope, raw_high = bins > 1 ? raw.inner_slopes[0] : *raw.last_slope;
        for (int j = 1; j < bins; j++) {
            edge += w[j - 1] + S(MIN_BIN);
            new_edge += h[j - 1] + S(MIN_BIN);
            const auto beyond = at >= (inverse ? new_edge : edge);
            start = select<V>(beyond, edge, start);
            new_start = select<V>(beyond, new_edge, new_start);
            // sums of the bins after: near 1 they have digits that 1 less what is before has not
            end = select<V>(beyond, end, end + w[j]);
            new_end = select<V>(beyond, new_end, new_end + h[j]);
            size = select<V>(beyond, w[j], size);
            target = select<V>(beyond, h[j], target);
            raw_low = select<V>(beyond, raw.inner_slopes[j - 1], raw_low);
            raw_high = select<V>(beyond, j + 1 < bins ? raw.inner_slopes[j] : *raw.last_slope, raw_high);
            index = select<V>(beyond, splat<V>(j), index);
        }
        size += S(MIN_BIN);
        target += S(MIN_BIN);
        const V after = (S(bins - 1) - index) * S(MIN_BIN);
        end += after;
        new_end += after;
        per_size = reciprocal(size);
        s = target * per_size;
        softplus(factor * raw_low + S(UNIT), low, low_rise);
        softplus(factor * raw_high + S(UNIT), high, high_rise);
        low += S(MIN_SLOPE), high += S(MIN_SLOPE);
        bend = low + high - 2 * s;
        far = at > rest;
        const V q = inverse ? clamp(nearer(at - new_start, rest - new_end) * reciprocal(target))
                            : clamp(nearer(at - start, rest - end) * per_size);
        finish(inverse ? solve(q, nearer(low, high)) : q);
    }

    // Of the distances to the two ends of a bin, the one on the side of the nearer end of the interval keeps its digits.
    INLINE V nearer(V from_start, V from_end) const { return select<V>(far, from_end, from_start); }

    // Of NaN, NaN: the second argument.
    INLINE static V clamp(V q) { return min_(splat<V>(1), max_(V{}, q)); }

    INLINE void finish(V q) {
        t = nearer(q, 1 - q);
        u = nearer(1 - q, q);
        const V tu = t * u;
        per_D = reciprocal(s + bend * tu);
        Q = high * t * t + 2 * s * tu + low * u * u;
        m = s * t + low * u;
        m_rest = s * u + high * t;
    }

    // The root t of y (s + bend t (1-t)) = s t^2 + slope t (1-t), in the form that does not cancel.
    INLINE V solve(V y, V slope) const {
        const V linear = slope - bend * y, quadratic = s - linear;
        const V root = sqrt_(max_(linear * linear + 4 * quadratic * s * y, V{}));
        return 2 * s * y * reciprocal(linear + root);
    }

    INLINE V x() const { return start + size * t; }
    INLINE V x_rest() const { return end + size * u; }
    INLINE V y() const { return new_start + target * t * m * per_D; }
    INLINE V y_rest() const { return new_end + target * u * m_rest * per_D; }
    INLINE V slope() const { return s * s * Q * per_D * per_D; }
    // The image of the point, or with `inverse` what it is the image of.
    INLINE V to() const { return inverse ? x() : y(); }
    INLINE V to_rest() const { return inverse ? x_rest() : y_rest(); }


    // From the derivatives that belong to the map to that with respect to the point; leaves in c those of the spline.
    INLINE V along(Cotangent<V>& c, int bins) const {
        const V of_to = c.y;
        if (inverse) c = {V{}, -c.ratio, -c.rest_ratio, -c.log_slope};
        const V dydx = slope(), shear = bend * (u - t) * per_D;
        const V dlog = 2 * ((high * t + s * (u - t) - low * u) * reciprocal(Q) - shear) * per_size;
        V sum = c.y * dydx + c.log_slope * dlog;
        if constexpr (ratios) {
            const V first = ((s - low) * reciprocal(m) - shear) * per_size;
            const V later = dydx * reciprocal(y()) - reciprocal(x());
            const V last = ((high - s) * reciprocal(m_rest) - shear) * per_size;
            const V earlier = reciprocal(x_rest()) - dydx * reciprocal(y_rest());
            sum += c.ratio * select<V>(index == 0, first, later) +
                   c.rest_ratio * select<V>(index == scalar_of<V>(bins - 1), last, earlier);
        }
        if (!inverse) return sum;
        // the spline of the new coordinate is that of the old one, at fixed parameters
        const V found = (of_to + sum) * reciprocal(dydx);
        c.y = -found;
        return found;
    }

    // Gradients of the unconstrained numbers; returns that of the scale. End slopes are added to what is there.
    INLINE V along_parameters(const Cotangent<V>& c, int bins, const Raw<const V>& raw, const V* shares_,
                              const Raw<V>& grad) const {
        using S = scalar_of<V>;
        const V tu = t * u, per_Q = reciprocal(Q);
        // y = 1 - rest: taken from the nearer end, where it does not cancel
        V of_y = select<V>(far, V{}, c.y), of_rest = select<V>(far, -c.y, V{});
        if constexpr (ratios) {
            of_y += c.ratio * reciprocal(y());
            of_rest += c.rest_ratio * reciprocal(y_rest());
        }
        const V both = (of_y - of_rest) * target * tu * per_D * per_D, v = c.log_slope;
        const V dydt = slope() * size;
        const V dlog = 2 * (high * t + s * (u - t) - low * u) * per_Q - 2 * bend * (u - t) * per_D;
        const V g_s = both * (high * t * t - low * u * u) + 2 * v * (reciprocal(s) + tu * per_Q - (1 - 2 * tu) * per_D);
        const V g_low = both * u * m_rest + v * (u * u * per_Q - 2 * tu * per_D);
        const V g_high = v * (t * t * per_Q - 2 * tu * per_D) - both * t * m;
        const V g_target = of_y * t * m * per_D + of_rest * u * m_rest * per_D + g_s * per_size;
        const V along_t = v * dlog;
        const V g_t = of_y * dydt + select<V>(far, V{}, along_t), g_u = of_rest * dydt - select<V>(far, along_t, V{});
        const V g_size = -(g_s * s + g_t * t + g_u * u) * per_size;
        V g_scale = spread(-g_t * per_size, g_size, -g_u * per_size, start, size, end, bins, raw.widths, shares_,
                           grad.widths);
        g_scale += spread(of_y, g_target, of_rest, new_start, target, new_end, bins, raw.heights, shares_ + bins,
                          grad.heights);
        const V d_low = g_low * low_rise, d_high = g_high * high_rise;
        g_scale += d_low * raw_low + d_high * raw_high;
        const V by_low = factor * d_low, by_high = factor * d_high;
        *grad.first_slope += select<V>(index == 0, by_low, V{});
        *grad.last_slope += select<V>(index == S(bins - 1), by_high, V{});
        for (int j = 1; j < bins; j++)
            grad.inner_slopes[j - 1] =
                select<V>(index == S(j), by_low, V{}) + select<V>(index == S(j - 1), by_high, V{});
        return g_scale * S(SCALE);
    }

   private:
    // Backward through the softmax: the bins before the one that holds the point, it, and those after have one
    // derivative each.
    INLINE V spread(V before, V here, V after, V start_, V size_, V end_, int bins, const V* raw, const V* share,
                    V* grad) const {
        using S = scalar_of<V>;
        const V low_part = start_ - index * S(MIN_BIN), high_part = end_ - (S(bins - 1) - index) * S(MIN_BIN);
        const V mean = (before * low_part + here * (size_ - S(MIN_BIN)) + after * high_part) * S(1 / (1 - bins * MIN_BIN));
        const V a = before - mean, b = here - mean, c = after - mean;
        V sum = {};
        for (int j = 0; j < bins; j++) {
            const V d = share[j] * select<V>(index == S(j), b, select<V>(index > S(j), a, c));
            sum += d * raw[j];
            grad[j] = d * factor;
        }
        return sum;
    }
};
