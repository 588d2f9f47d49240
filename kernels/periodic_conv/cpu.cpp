// periodic_conv for CPUs: output channels in lanes, and several sites at a time, so that a vector of weights serves all.
#include <vector>

#include "lanes.hpp"

namespace {

constexpr int SITES = BYTES == 64 ? 8 : 4;  // their sums, of two vectors each, stay in registers

struct Shape {
    int64_t batch, in, out, places, volume;
    // of rows of a table: whole blocks of sites, the last site again and again behind the end
    int64_t row() const { return (volume + SITES - 1) / SITES * SITES; }
};

// Numbers that begin where a vector may.
struct Room {
    std::vector<vec> memory;
    Room(int64_t size) : memory(size / L) {}
    real* data() { return reinterpret_cast<real*>(memory.data()); }
};

int64_t padded(int64_t channels) { return (channels + L - 1) / L * L; }

// The sites that a site sees, (places, volume): places of the kernel, and sites, the last axis fastest.
std::vector<int32_t> neighbours(const int64_t* extents, int64_t dim, int64_t size, const Shape& s) {
    std::vector<int32_t> table(s.places * s.row());
    for (int64_t place = 0; place < s.places; place++) {
        int32_t* seen = table.data() + place * s.row();
        int64_t known = 1, p = s.places;  // sites of the axes so far, of which each becomes a row along the next
        for (int64_t axis = 0; axis < dim; axis++) {
            p /= size;
            const int64_t extent = extents[axis], step = place / p % size - size / 2;
            const int64_t ahead = (step % extent + extent) % extent;
            for (int64_t row = known - 1; row >= 0; row--)
                for (int64_t x = extent - 1, base = seen[row] * extent; x >= 0; x--)
                    seen[row * extent + x] = (int32_t)(base + x + ahead - (x + ahead >= extent ? extent : 0));
            known *= extent;
        }
        std::fill(seen + s.volume, seen + s.row(), seen[s.volume - 1]);
    }
    return table;
}

// (batch, channels, volume) -> (batch, volume, padded channels), zeros behind the channels.
Room channels_last(const real* x, int64_t batch, int64_t channels, int64_t volume, int threads) {
    const int64_t width = padded(channels);
    Room room(batch * volume * width);
    real* out = room.data();
#pragma omp parallel for num_threads(threads) if (threads > 1 && batch > 1)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t c = 0; c < channels; c++)
            for (int64_t v = 0; v < volume; v++) out[(b * volume + v) * width + c] = x[(b * channels + c) * volume + v];
    return room;
}

// Half a vector, for few output channels.
typedef real half __attribute__((vector_size(std::max<size_t>(BYTES / 2, sizeof(real)))));

// The sums of a block of sites for W vectors of output channels, stored into out (channels, volume): a row of x are `in`
// channels, and `seen` says where rows begin.
template <class V, int W>
void convolve_block(const real* x, int64_t in, const real* w, int64_t width, const int64_t* seen, const Shape& s,
                    int64_t first, int64_t channels, real* out) {
    seen += first;
    constexpr int lanes = sizeof(V) / sizeof(real);
    V sum[SITES][W] = {};
    for (int64_t place = 0; place < s.places; place++, seen += s.row(), w += in * width) {
        int64_t row[SITES];
        for (int i = 0; i < SITES; i++) row[i] = seen[i];
        const real* channel = x;
        for (int64_t c = 0; c < in; c++, channel++) {
            V weight[W];
            for (int j = 0; j < W; j++) std::memcpy(&weight[j], w + c * width + j * lanes, sizeof(V));
            for (int i = 0; i < SITES; i++)
                for (int j = 0; j < W; j++) sum[i][j] += channel[row[i]] * weight[j];
        }
    }
    for (int i = 0; i < SITES && first + i < s.volume; i++)
        for (int64_t c = 0; c < std::min<int64_t>(W * lanes, channels); c++)
            out[c * s.volume + first + i] = sum[i][c / lanes][c % lanes];
}

// Convolves x (batch, volume, padded in) with w (places, in, padded out) into y (batch, out, volume).
void convolve(const real* x, const real* w, const int32_t* seen, const Shape& s, int64_t in, int64_t out, real* y,
              int threads) {
    const int64_t blocks = (s.volume + SITES - 1) / SITES, stride = padded(in), width = padded(out);
    std::vector<int64_t> rows(seen, seen + s.places * s.row());
    for (int64_t& row : rows) row *= stride;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t item = 0; item < s.batch * blocks; item++) {
        const int64_t b = item / blocks, first = item % blocks * SITES;
        for (int64_t o = 0; o < width; o += 2 * L) {
            const bool few = (out - o) * sizeof(real) <= sizeof(half);
            const auto block = o + 2 * L <= width ? convolve_block<vec, 2>
                               : few              ? convolve_block<half, 1>
                                                  : convolve_block<vec, 1>;
            block(x + b * s.volume * stride, in, w + o, width, rows.data(), s, first, out - o, y + (b * out + o) * s.volume);
        }
    }
}

// The gradient of weights of one place, for ROWS input channels from c on and W vectors of output channels from o on.
template <int ROWS, int W>
void weigh(const real* x, const real* g, const int32_t* seen, const Shape& s, int64_t c, int64_t o, real* out) {
    const int64_t in = padded(s.in), width = padded(s.out);
    vec total[ROWS][W] = {};
    for (int64_t b = 0; b < s.batch; b++, x += s.volume * in, g += s.volume * width) {
        vec sum[ROWS][W] = {};
        for (int64_t v = 0; v < s.volume; v++) {
            const real* row = x + seen[v] * in + c;
            vec grad[W];
            for (int j = 0; j < W; j++) grad[j] = load<vec>(g + v * width + o + j * L);
            for (int i = 0; i < ROWS; i++)
                for (int j = 0; j < W; j++) sum[i][j] += row[i] * grad[j];
        }
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < W; j++) total[i][j] += sum[i][j];
    }
    for (int64_t i = 0; i < std::min<int64_t>(ROWS, s.in - c); i++)
        for (int64_t k = 0; k < std::min<int64_t>(W * L, s.out - o); k++)
            out[((o + k) * s.in + c + i) * s.places] = total[i][k / L][k % L];
}

// That for the fewest rows that hold what is left of the input channels.
template <int W> auto weigher(int64_t left) {
    constexpr int part = SITES / 4;
    return left <= part       ? weigh<part, W>
           : left <= 2 * part ? weigh<2 * part, W>
           : left <= 3 * part ? weigh<3 * part, W>
                              : weigh<SITES, W>;
}

}  // namespace

extern "C" int64_t periodic_conv(const real* x, const real* weight, const int64_t* extents, int64_t dim, int64_t size,
                                 int64_t batch, int64_t in, int64_t out, int64_t places, int64_t volume, real* y,
                                 int64_t threads) {
    const Shape s{batch, in, out, places, volume};
    const auto seen = neighbours(extents, dim, size, s);
    const int64_t width = padded(out);
    Room weights(places * in * width);
    real* w = weights.data();
    for (int64_t o = 0; o < out; o++)
        for (int64_t c = 0; c < in; c++)
            for (int64_t p = 0; p < places; p++) w[(p * in + c) * width + o] = weight[(o * in + c) * places + p];
    convolve(channels_last(x, batch, in, volume, threads).data(), w, seen.data(), s, in, out, y, threads);
    return 0;
}

extern "C" int64_t periodic_conv_backward(const real* x, const real* weight, const real* grad, const int64_t* extents,
                                          int64_t dim, int64_t size, int64_t batch, int64_t in, int64_t out,
                                          int64_t places, int64_t volume, real* grad_x, real* grad_weight,
                                          int64_t threads) {
    const Shape s{batch, in, out, places, volume};
    const auto seen = neighbours(extents, dim, size, s);
    auto g = channels_last(grad, batch, out, volume, threads);
    // of x: the convolution of the gradient with the mirrored kernel
    const int64_t width = padded(in);
    Room weights(places * out * width);
    real* w = weights.data();
    for (int64_t o = 0; o < out; o++)
        for (int64_t c = 0; c < in; c++)
            for (int64_t p = 0; p < places; p++)
                w[((places - 1 - p) * out + o) * width + c] = weight[(o * in + c) * places + p];
    convolve(g.data(), w, seen.data(), s, out, in, grad_x, threads);
    auto rows = channels_last(x, batch, in, volume, threads);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t p = 0; p < places; p++)
        for (int64_t o = 0; o < out; o += 2 * L)
            for (int64_t c = 0; c < in; c += SITES) {
                const auto block = o + L < out ? weigher<2>(in - c) : weigher<1>(in - c);
                block(rows.data(), g.data(), seen.data() + p * s.row(), s, c, o, grad_weight + p);
            }
    return 0;
}
