// exp2, log, log1p, sin, cos, atan2 on lanes. The polynomials are Chebyshev interpolants of the functions on the reduced
// ranges, with relative errors below half a unit in the last place before rounding.
#pragma once
#include "lanes.hpp"

constexpr double PI = 3.14159265358979323846, LOG2_E = 1.44269504088896340736;

template <class V, int n> INLINE V horner(V x, const scalar_of<V> (&c)[n]) {
    V sum = splat<V>(c[n - 1]);
    for (int i = n - 2; i >= 0; i--) sum = sum * x + c[i];
    return sum;
}

template <class V> struct coefficients;
template <> struct coefficients<floats> {
    static constexpr float exp2[] = {1.0f,           0.693147188f,   0.2402265076f,  0.05550357114f,
                                     0.009618082557f, 0.001339086336f, 0.0001545316295f};
    static constexpr float log[] = {0.6666668506f, 0.3998877067f, 0.2958039828f};
    static constexpr float artanh[] = {0.6666664034f, 0.4000756064f, 0.2823661981f, 0.2685149802f};
    static constexpr float sin[] = {-0.1666666466f, 0.008332748038f, -0.0001958784052f};
    static constexpr float cos[] = {0.04166666466f, -0.00138883028f, 2.454789162e-5f};
    static constexpr float atan[] = {-0.3333333176f, 0.1999954015f, -0.1426394391f, 0.1074360515f, -0.06451509517f};
    static constexpr float ln2[] = {0.693359375f, -2.12194440e-4f};
    static constexpr float half_pi[] = {1.5703125f, 4.837512969970703e-4f, 7.549789948768648e-8f};
    static constexpr float round = 12582912.0f;  // 1.5 * 2^23
    static constexpr int mantissa = 23, bias = 127;
    static constexpr float largest = 126.0f;
};
template <> struct coefficients<doubles> {
    static constexpr double exp2[] = {1.0,                       0.6931471805599453094,    0.2402265069591009822,
                                      0.05550410866482159434,    0.009618129107606888527,  0.001333355814641693531,
                                      0.0001540353044173605015,  0.00001525273382983611839, 1.321544258792168965e-6,
                                      1.017806244584577352e-7,   7.0725859492692237e-9,    4.454960598186518394e-10};
    static constexpr double log[] = {0.6666666666666669695, 0.3999999999989923898, 0.2857142862609589156,
                                     0.2222221111514415868, 0.1818289055669576367, 0.1533167403016350906,
                                     0.1461703754883715133};
    static constexpr double artanh[] = {0.6666666666666665856, 0.4000000000001458267, 0.2857142856710875716,
                                        0.2222222271742786299, 0.1818178943613285817, 0.153855700649586231,
                                        0.1331414420965493615, 0.1200107280959071254, 0.08800738485144673882,
                                        0.1616404561194353222};
    static constexpr double sin[] = {-0.1666666666666666462,    0.008333333333330946103, -0.0001984126983675497001,
                                     2.755731610068302676e-6,   -2.505113145542756099e-8, 1.591810123025134737e-10};
    static constexpr double cos[] = {0.04166666666666666539,   -0.001388888888888739575, 0.00002480158729876343276,
                                     -2.755731727056017493e-7, 2.08761460246655767e-9,   -1.138261486713184665e-11};
    static constexpr double atan[] = {-0.3333333333333333015, 0.1999999999999551241,  -0.1428571428466481788,
                                      0.111111110151176249,   -0.09090904572487306592, 0.07692183059893331191,
                                      -0.06664509603246049587, 0.05858132894357625946, -0.05085365922019657172,
                                      0.03922923712996916795, -0.01917392227625135927};
    static constexpr double ln2[] = {0.693147180369123816490, 1.90821492927058770002e-10};
    static constexpr double half_pi[] = {1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21};
    static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr int mantissa = 52, bias = 1023;
    static constexpr double largest = 1022.0;
};

template <class V> INLINE V exp2_(V x) {
    using C = coefficients<V>;
#if defined(__AVX512F__)
    V n;
    if constexpr (sizeof(x[0]) == 4) n = (V)_mm512_roundscale_ps((__m512)x, 0);
    else n = (V)_mm512_roundscale_pd((__m512d)x, 0);
    const V y = horner(x - n, C::exp2);
    if constexpr (sizeof(x[0]) == 4) return (V)_mm512_scalef_ps((__m512)y, (__m512)n);
    else return (V)_mm512_scalef_pd((__m512d)y, (__m512d)n);
#else
    using M = mask_of<V>;
    const V bound = max_(min_(x, splat<V>(C::largest)), splat<V>(-C::largest));
    const V shifted = bound + C::round;
    const V y = horner(bound - (shifted - C::round), C::exp2);
    return select<V>(x == x, (V)((M)y + (((M)shifted - (M)splat<V>(C::round)) << C::mantissa)), x);
#endif
}

// For x >= 0, what is below the smallest normal number counting as 0; of NaN, NaN.
template <class V> INLINE V log_(V x) {
    using C = coefficients<V>;
    using M = mask_of<V>;
    using Limits = std::numeric_limits<scalar_of<V>>;
    const M offset = (M)splat<V>(0.70710678118654752440);
    const M e = ((M)x - offset) >> C::mantissa;
    const V m = (V)((M)x - (e << C::mantissa));
    const V s = (m - 1) * reciprocal(m + 1), z = s * s;
    const V n = __builtin_convertvector(e, V);
    const V found = n * C::ln2[0] + (s + (s + (n * C::ln2[1] + s * z * horner(z, C::log))));
    return select<V>(x < traits<V>::tiny, splat<V>(-Limits::infinity()), select<V>(x <= Limits::max(), found, x));
}

// log(1 + x) for 0 <= x <= 1, as 2 artanh(x / (2 + x)): 1 + x would round.
template <class V> INLINE V log1p_(V x) {
    const V s = x * reciprocal(x + 2), z = s * s;
    return s + (s + s * z * horner(z, coefficients<V>::artanh));
}

template <class V> INLINE void sincos_(V x, V& sine, V& cosine) {
    using C = coefficients<V>;
    using M = mask_of<V>;
    const V shifted = x * scalar_of<V>(0.63661977236758134308) + C::round;
    const V n = shifted - C::round;
    const M quadrant = (M)shifted;
    const V r = ((x - n * C::half_pi[0]) - n * C::half_pi[1]) - n * C::half_pi[2], z = r * r;
    const V s = r + r * z * horner(z, C::sin), c = z * z * horner(z, C::cos) - scalar_of<V>(0.5) * z + scalar_of<V>(1);
    const M swap = (quadrant & 1) != 0;
    const V a = select<V>(swap, c, s), b = select<V>(swap, s, c);
    sine = select<V>((quadrant & 2) != 0, -a, a);
    cosine = select<V>(((quadrant + 1) & 2) != 0, -b, b);
}

template <class V> INLINE V atan2_(V y, V x) {
    using C = coefficients<V>;
    const V ay = abs_(y), ax = abs_(x);
    const V small = min_(ay, ax), large = max_(ay, ax);
    const auto turn = small > large * scalar_of<V>(0.41421356237309504880);  // tan(pi/8)
    const V below = select<V>(turn, small + large, large);
    const V q = select<V>(turn, small - large, small) * reciprocal(max_(below, splat<V>(traits<V>::tiny * 4))), z = q * q;
    V a = q + q * z * horner(z, C::atan);
    a = select<V>(turn, a + scalar_of<V>(0.78539816339744830962), a);
    a = select<V>(ay > ax, scalar_of<V>(1.57079632679489661923) - a, a);
    a = select<V>(x < 0, scalar_of<V>(3.14159265358979323846) - a, a);
    return copysign_(a, y);
}
