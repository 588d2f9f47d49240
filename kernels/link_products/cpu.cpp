// link_products for CPUs: the walks from a block of starting points at a time, one a lane, through links that are
// gathered from where they lie.
#include <vector>

#include "parameters.hpp"
#include "walks.hpp"

constexpr int N = SIZE, WIDTH = 2 * N * N;

namespace {

INLINE void add_link(const Walk& walk, const Block& block, int64_t step, Matrix<N>& m, int count, real* field) {
    real* record[L];
    vec tile[WIDTH];
    block.records<WIDTH>(walk.row(step), field, record);
    if (!walk.forward[step]) adjoin(m);
    to_tile(m, tile);
    add_tile(record, count, tile);
}

void follow(const Walk& walk, const real* links, int64_t first, int count, real* out) {
    const Block block(walk, first, count);
    Matrix<N> product, link, next;
    load_link(block, walk.row(0), links, product);
    if (!walk.forward[0]) adjoin(product);
    for (int64_t step = 1; step < walk.steps; step++) {
        load_link(block, walk.row(step), links, link);
        if (walk.forward[step]) multiply(product, link, next);
        else multiply<N, false, true>(product, link, next);
        product = next;
    }
    store_matrices(out + first * WIDTH, count, product);
}

// With P = S_1 ... S_k the gradient of S_i is (S_1 ... S_{i-1})^dagger grad (S_{i+1} ... S_k)^dagger.
void follow_back(const Walk& walk, const real* links, const real* grad, int64_t first, int count, Matrix<N>* link,
                 Matrix<N>* before, real* out) {
    const Block block(walk, first, count);
    for (int64_t step = 0; step < walk.steps; step++) load_link(block, walk.row(step), links, link[step]);
    before[0] = link[0];
    if (!walk.forward[0]) adjoin(before[0]);
    for (int64_t step = 1; step + 1 < walk.steps; step++) {
        if (walk.forward[step]) multiply(before[step - 1], link[step], before[step]);
        else multiply<N, false, true>(before[step - 1], link[step], before[step]);
    }
    Matrix<N> rest, product;
    load_matrices(grad + first * WIDTH, count, rest);
    for (int64_t step = walk.steps - 1; step > 0; step--) {
        multiply<N, true>(before[step - 1], rest, product);
        add_link(walk, block, step, product, count, out);
        if (walk.forward[step]) multiply<N, false, true>(rest, link[step], product);
        else multiply(rest, link[step], product);
        rest = product;
    }
    add_link(walk, block, 0, rest, count, out);
}

}  // namespace

// No index in the table may lie outside the links.
extern "C" int64_t link_products(const real* links, const int64_t* table, const int64_t* forward, int64_t batch,
                                 int64_t n_links, int64_t steps, int64_t starts, real* out, int64_t threads) {
    const Walk walk{table, forward, steps, starts, n_links};
    return for_blocks(batch * starts, threads, [=](int64_t first, int count) {
        follow(walk, links, first, count, out);
        return true;
    });
}

// The threads share out the batch entries, so that no two add to the same link.
extern "C" int64_t link_products_backward(const real* links, const int64_t* table, const int64_t* forward,
                                          int64_t batch, int64_t n_links, int64_t steps, int64_t starts,
                                          const real* grad, real* out, int64_t threads) {
    const Walk walk{table, forward, steps, starts, n_links};
    const int64_t parts = std::min(batch, threads);
#pragma omp parallel for num_threads(std::max<int64_t>(parts, 1)) schedule(static) if (parts > 1)
    for (int64_t part = 0; part < parts; part++) {
        const int64_t low = batch * part / parts, high = batch * (part + 1) / parts;
        std::memset(out + low * n_links * WIDTH, 0, (high - low) * n_links * WIDTH * sizeof(real));
        std::vector<Matrix<N>> link(steps), before(steps);
        for (int64_t first = low * starts; first < high * starts; first += L)
            follow_back(walk, links, grad, first, (int)std::min<int64_t>(L, high * starts - first), link.data(),
                        before.data(), out);
    }
    return 0;
}
