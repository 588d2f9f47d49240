// The spectral map on the eigenphases alone: from gaps and parameters to new gaps and the log-determinant, and back.
// The maths is in kernels/spectral_flow/README.md.
#pragma once
#include "spline.hpp"

template <class V> struct half_arc;  // coefficients for arcs up to pi
template <> struct half_arc<floats> {
    static constexpr float sin[] = {-0.1666666666f, 0.008333332768f, -0.0001984108645f, 2.753645532e-6f, -2.407999973e-8f};
};
template <> struct half_arc<doubles> {
    static constexpr double sin[] = {-0.1666666666666666663,   0.008333333333333315844, -0.0001984126984125495599,
                                     2.755731921915843057e-6,  -2.505210761638459507e-8, 1.605897727281549508e-10,
                                     -7.643969031052472206e-13, 2.731428986119408723e-15};
};

// 2 |B_2n| / (2n)!: cot(x / 2) - 2 / x = -sum_n of these times x^(2n-1)
template <class V> struct cotangent_series {
    static constexpr scalar_of<V> terms[] = {
        scalar_of<V>(0.1666666666666666667),     scalar_of<V>(0.002777777777777777778),
        scalar_of<V>(0.00006613756613756613757), scalar_of<V>(1.653439153439153439e-6),
        scalar_of<V>(4.175351397573619796e-8),   scalar_of<V>(1.056838027737498637e-9),
        scalar_of<V>(2.676507306136935767e-11),  scalar_of<V>(6.779360592645165734e-13)};
};

template <class V> INLINE V half_sine(V arc) {
    const V x = arc * scalar_of<V>(0.5), z = x * x;
    return x + x * z * horner(z, half_arc<V>::sin);
}

// What gaps are kept above, so that ratios are finite: products of four sines, or a square for SU(2), stay in range.
template <int N> constexpr float smallest_gap(floats) { return N == 2 ? 1e-18f : 1e-9f; }
template <int N> constexpr double smallest_gap(doubles) { return 1e-18; }

// Rotates a[0..N) by r places: new a[k] = a[(k + r) mod N].
template <int N, class V> INLINE void rotate(V (&a)[N], mask_of<V> r) {
    for (int step = 1; step < N; step *= 2) {
        const auto here = (r & step) != 0;
        V turned[N];
        for (int k = 0; k < N; k++) turned[k] = select<V>(here, a[(k + step) % N], a[k]);
        for (int k = 0; k < N; k++) a[k] = turned[k];
    }
}

template <class V, int N, bool inverse> struct Phases {
    static constexpr int PAIRS = N * (N - 1) / 2;
    using S = scalar_of<V>;

    // In the order of the sorted phases, the last gap closing the circle.
    V gap[N], new_gap[N];
    mask_of<V> turn, turn_back;  // pieces are gaps rotated by `turn`
    V piece[N], new_piece[N], left[N], new_left[N], per_left[N];
    Spline<V, true, inverse> spline[N - 1];
    // Of the shorter of the two arcs between a pair of phases: its length, half-angle sine and cosine, and whether it is
    // the arc that runs upwards from the lower phase. The new ones belong to the same two phases.
    V arc[PAIRS], sine[PAIRS], cosine[PAIRS], new_arc[PAIRS], new_sine[PAIRS], new_cosine[PAIRS];
    mask_of<V> between[PAIRS], new_between[PAIRS];

    template <class T> INLINE static Raw<T> raw_of(T* raw, int bins, int k) {
        T *own = raw + (k ? 3 * bins + 1 + (k - 1) * (3 * bins - 1) : 0), *shared = raw + 2 * bins;
        if (k) return {own, own + bins, shared, own + 2 * bins, shared};
        return {own, own + bins, shared, shared + 1, shared + bins};
    }
    static constexpr int n_params(int bins) { return 3 * bins + 1 + (N - 2) * (3 * bins - 1); }

    // From sorted phases in [-pi, pi] of a matrix, less the element exp(2 pi i centre / N) of the centre.
    INLINE void set_gaps(const V (&phase)[N], mask_of<V> centre) {
        V sum = phase[0];
        for (int k = 1; k < N; k++) sum += phase[k];
        using C = coefficients<V>;
        const V shifted = sum * S(0.5 / PI) + C::round;  // nearest integer, in the low bits
        const auto winding = (mask_of<V>)shifted - (mask_of<V>)splat<V>(C::round) + centre;
        for (int k = 0; k + 1 < N; k++) gap[k] = max_(phase[k + 1] - phase[k], splat<V>(smallest_gap<N>(V{})));
        gap[N - 1] = max_(S(2 * PI) - (phase[N - 1] - phase[0]), splat<V>(smallest_gap<N>(V{})));
        turn = (3 * N - 1) - winding;  // the closing gap of the alcove first
        for (int i = 0; i < 3; i++) turn = turn >= N ? turn - N : turn;
        turn_back = turn == 0 ? turn : N - turn;
    }

    // Whether two phases nearly meet, or three, and derivatives are small differences of large numbers.
    INLINE mask_of<V> crowded() const {
        V of_two = splat<V>(2 * PI), of_three = of_two;
        for (int k = 0; k < N; k++) {
            of_two = min_(of_two, gap[k]);
            of_three = min_(of_three, N > 2 ? gap[k] + gap[(k + 1) % N] : of_three);
        }
        return (of_two < S(0.005)) | (of_three < S(0.06));
    }

    // Gaps, pieces, splines, new gaps and arcs. shares: room for 2 bins (N - 1).
    INLINE void map(const V (&phase)[N], mask_of<V> centre, const V* raw, int bins, V* shares_, bool cosines) {
        set_gaps(phase, centre);
        for (int k = 0; k < N; k++) piece[k] = gap[k];
        rotate<N>(piece, turn);
        left[N - 1] = piece[N - 1];
        for (int k = N - 2; k >= 0; k--) left[k] = left[k + 1] + piece[k];
        new_left[0] = left[0];
        for (int k = 0; k < N - 1; k++) {
            auto& f = spline[k];
            per_left[k] = reciprocal(left[k]);
            const V x = piece[k] * per_left[k], rest = left[k + 1] * per_left[k];
            const V scale = (inverse ? new_left[k] : left[k]) * per_left[0];
            f.locate(raw_of(raw, bins, k), scale, bins, x, rest, shares_ + 2 * bins * k);
            new_piece[k] = new_left[k] * f.to();
            new_left[k + 1] = new_left[k] * f.to_rest();
        }
        new_piece[N - 1] = new_left[N - 1];
        for (int k = 0; k < N; k++) new_gap[k] = new_piece[k];
        rotate<N>(new_gap, turn_back);
        arcs(cosines);
    }

    // What the phases move by, in their order: the mean of all is 0.
    INLINE void shifts(V (&shift)[N]) const {
        V sum = {};
        shift[0] = V{};
        for (int k = 1; k < N; k++) {
            shift[k] = shift[k - 1] + (new_gap[k - 1] - gap[k - 1]);
            sum += shift[k];
        }
        for (int k = 0; k < N; k++) shift[k] -= sum * S(1.0 / N);
    }

    INLINE void arcs(bool cosines) {
        int p = 0;
        for (int i = 0; i < N; i++) {
            V up = {}, new_up = {};
            for (int j = i + 1; j < N; j++, p++) {
                up += gap[j - 1];
                new_up += new_gap[j - 1];
                V rest = {}, new_rest = {};
                for (int k = j; k < N + i; k++) rest += gap[k % N], new_rest += new_gap[k % N];
                between[p] = up <= rest;
                new_between[p] = new_up <= new_rest;
                arc[p] = min_(up, rest);
                new_arc[p] = min_(new_up, new_rest);
                sine[p] = half_sine(arc[p]);
                new_sine[p] = half_sine(new_arc[p]);
                if (cosines) {
                    cosine[p] = half_sine(S(PI) - arc[p]);
                    new_cosine[p] = half_sine(S(PI) - new_arc[p]);
                }
            }
        }
    }

    // Needs the arcs. Ratios are multiplied a few at a time: more could leave the range of float.
    INLINE V logdet() const {
        if constexpr (N == 2) {
            const V stretch = new_sine[0] * reciprocal(sine[0]);
            return log_(stretch * stretch * factor(0));
        }
        V sum = {}, above = splat<V>(1), below = splat<V>(1);
        for (int p = 0; p < PAIRS; p++) {
            above *= new_sine[p];
            below *= sine[p];
            if (p % 4 == 3 || p == PAIRS - 1) {
                sum += log_(above * reciprocal(below));
                above = below = splat<V>(1);
            }
        }
        sum += sum;
        V factors = splat<V>(1);
        for (int k = 0; k < N - 1; k++) {
            factors *= factor(k);
            if (k % 2 == 1 || k == N - 2) {
                sum += log_(factors);
                factors = splat<V>(1);
            }
        }
        return sum;
    }

    // From the derivatives with respect to the shifts and the log-determinant to those with respect to the phases, in
    // their order, and of the parameters. Needs map and arcs with cosines.
    INLINE void backward(const V (&g_shift)[N], V g_logdet, const V* raw, int bins, const V* shares_, V (&g_phase)[N],
                         V* g_raw) const {
        V g_gap[N], g_new[N], g_ratio[N];  // of gaps, new gaps, and log(new gap / gap)
        V mean = g_shift[0];
        for (int k = 1; k < N; k++) mean += g_shift[k];
        mean *= S(1.0 / N);
        V climb = {};
        g_new[N - 1] = V{};
        for (int k = N - 1; k > 0; k--) g_new[k - 1] = climb += g_shift[k] - mean;
        for (int k = 0; k < N; k++) g_gap[k] = -g_new[k], g_ratio[k] = V{};
        vandermonde(g_logdet, g_gap, g_new, g_ratio);

        rotate<N>(g_gap, turn);
        rotate<N>(g_new, turn);
        rotate<N>(g_ratio, turn);
        V g_left = g_new[N - 1];  // of what is left of the new stick
        V beyond = g_ratio[N - 1];
        V g_piece[N], g_sum[N];  // of pieces, and of the old sticks
        for (int k = 0; k < N; k++) g_sum[k] = V{};
        g_raw[2 * bins] = g_raw[3 * bins] = V{};
        for (int k = N - 2; k >= 0; k--) {
            const auto& f = spline[k];
            const V absolute = new_left[k] * (g_new[k] - g_left);
            // log(new_left / left) of every later stick but the last is a sum of these
            const V rests = beyond + g_logdet * S(N - 2 - k);
            Cotangent<V> c{absolute, g_ratio[k], rests, g_logdet};
            const V g_x = f.along(c, bins);
            const V g_scale =
                f.along_parameters(c, bins, raw_of(raw, bins, k), shares_ + 2 * bins * k, raw_of(g_raw, bins, k));
            g_left = g_new[k] * f.to() + g_left * f.to_rest();
            (inverse ? g_left : g_sum[k]) += g_scale * per_left[0];
            // x = piece / left
            const V per = g_x * per_left[k] * per_left[k];
            g_piece[k] = per * left[k + 1];
            g_sum[k + 1] -= per * piece[k];
            beyond += g_ratio[k];
        }
        g_piece[N - 1] = V{};
        V stick = {};
        for (int k = 0; k < N; k++) {
            stick += g_sum[k];
            g_gap[k] += g_piece[k] + stick;
        }
        rotate<N>(g_gap, turn_back);
        for (int k = 0; k < N; k++) g_phase[k] = g_gap[(k + N - 1) % N] - g_gap[k];
    }

   private:
    // What the k-th piece stretches by, less the Vandermonde determinant.
    INLINE V factor(int k) const {
        const V slope = inverse ? reciprocal(spline[k].slope()) : spline[k].slope();
        return k ? slope * new_left[k] * per_left[k] : slope;
    }

    // Of 2 sum log(new_sine / sine). The poles 2 / arc of the cotangents cancel between old and new: they are taken
    // together, as derivatives of log(new gap / gap), and what is left of them for arcs of several gaps as a difference.
    INLINE void vandermonde(V g, V (&g_gap)[N], V (&g_new)[N], V (&g_ratio)[N]) const {
        int p = 0;
        for (int i = 0; i < N; i++) {
            for (int j = i + 1; j < N; j++, p++) {
                const auto same = between[p] == new_between[p];
                const V cot = cosine[p] * reciprocal(sine[p]), new_cot = new_cosine[p] * reciprocal(new_sine[p]);
                // the new length of the arc that was the shorter one
                const V stretched = select<V>(same, new_arc[p], S(2 * PI) - new_arc[p]);
                const V per_old = reciprocal(arc[p]), per_new = reciprocal(stretched);
                const V rest = g * regular(arc[p], cot, per_old);
                const V new_rest = g * select<V>(same, regular(new_arc[p], new_cot, per_new), -new_cot - 2 * per_new);
                const V pole = 2 * g * per_new;
                for (int k = 0; k < N; k++) {
                    const bool inside = k >= i && k < j;
                    const auto on = inside ? between[p] : ~between[p];
                    g_ratio[k] += select<V>(on, pole * new_gap[k], V{});
                    g_new[k] += select<V>(on, new_rest, V{});
                    g_gap[k] -= select<V>(on, rest, V{});
                    const bool alone = inside ? j - i == 1 : N - (j - i) == 1;
                    if (!alone) g_gap[k] += select<V>(on, pole * (new_gap[k] * reciprocal(gap[k]) - stretched * per_old), V{});
                }
            }
        }
    }

    // cot(x / 2) - 2 / x
    INLINE static V regular(V x, V cot, V per) {
        const V z = x * x;
        return select<V>(x < S(0.5), -x * horner(z, cotangent_series<V>::terms), cot - 2 * per);
    }
};
