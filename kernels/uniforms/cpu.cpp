// Uniform random numbers of streams for CPUs: a block of words a lane.
#include "parameters.hpp"
#include "philox.hpp"

extern "C" int64_t uniforms(const int64_t* keys, const int64_t* calls, int64_t chains, int64_t n, real* out,
                            int64_t threads) {
    for (int64_t k = 0; k < chains; k++)
        if (calls[k] >> 32) return 1;
    constexpr int PARTS = 16 / sizeof(real);  // numbers of a block
    constexpr int64_t PIECE = 4096;           // blocks; to wake a thread takes longer than some pieces
    const int64_t blocks = (n + PARTS - 1) / PARTS, pieces = (blocks + PIECE - 1) / PIECE;
    threads = std::min(threads, 1 + chains * blocks / (16 * PIECE));
    return for_blocks(chains * pieces * L, threads, [=](int64_t m, int) {
        const int64_t chain = m / L / pieces, begin = m / L % pieces * PIECE;
        Stream<words_of<vec>> stream;
        for (int l = 0; l < L; l++) stream.set(l, keys + 2 * chain, calls[chain]);
        for (int64_t first = begin; first < std::min(begin + PIECE, blocks); first += L) {
            vec numbers[PARTS];
            uniforms(stream, lane_numbers<words_of<vec>>() + uint32_t(first), numbers);
            for (int i = 0; i < PARTS; i++) {
                const int64_t at = i * blocks + first, count = std::min({int64_t(L), blocks - first, n - at});
                if (count == L) store(out + chain * n + at, numbers[i]);
                else if (count > 0) store_part(out + chain * n + at, count, numbers[i]);
            }
        }
        return true;
    });
}
