// link_sums and link_forces for CPUs: for a block of ends at a time, one a lane, the walks one after the other, each
// added to the sum in registers.
#include "parameters.hpp"
#include "walks.hpp"

constexpr int N = SIZE, WIDTH = 2 * N * N;

namespace {

// Adds the product of links along one walk to the sum; false, where an index is not one of a link.
INLINE bool add_walk(const Walk& walk, const Block& block, const real* links, Matrix<N>& sum) {
    for (int64_t step = 0; step < walk.steps; step++)
        if (!block.inside(walk.row(step), walk.links)) return false;
    Matrix<N> product, link, next;
    load_link(block, walk.row(0), links, product);
    if (!walk.forward[0]) adjoin(product);
    for (int64_t step = 1; step + 1 < walk.steps; step++) {
        load_link(block, walk.row(step), links, link);
        if (!walk.forward[step]) adjoin(link);
        multiply(product, link, next);
        product = next;
    }
    if (walk.steps == 1) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) sum.re[i][j] += product.re[i][j], sum.im[i][j] += product.im[i][j];
        return true;
    }
    load_link(block, walk.row(walk.steps - 1), links, link);
    if (!walk.forward[walk.steps - 1]) adjoin(link);
    multiply<N, false, false, true>(product, link, sum);
    return true;
}

// The traceless anti-Hermitian part.
INLINE void project(Matrix<N>& m) {
    vec trace = {};
    for (int i = 0; i < N; i++) trace += m.im[i][i];
    for (int i = 0; i < N; i++) {
        m.re[i][i] = vec{}, m.im[i][i] -= trace * real(1.0 / N);
        for (int j = i + 1; j < N; j++) {
            m.re[i][j] = real(0.5) * (m.re[i][j] - m.re[j][i]), m.re[j][i] = -m.re[i][j];
            m.im[i][j] = m.im[j][i] = real(0.5) * (m.im[i][j] + m.im[j][i]);
        }
    }
}

// `active` is null where the sums themselves are wanted. Returns in how many blocks an index is not one of a link:
// nothing is read through it.
int64_t sums(const Walk& first_walk, int64_t walks, const real* links, const int64_t* active, int64_t batch, real* out,
             int64_t threads) {
    return for_blocks(batch * first_walk.starts, threads, [=](int64_t first, int count) {
        Walk walk = first_walk;
        const Block block(walk, first, count);
        Matrix<N> sum = {}, link, force;
        for (int64_t w = 0; w < walks; w++, walk.table += walk.steps * walk.starts, walk.forward += walk.steps)
            if (!add_walk(walk, block, links, sum)) return false;
        if (active) {
            if (!block.inside(active, walk.links)) return false;
            load_link(block, active, links, link);
            multiply(link, sum, force);
            project(force);
            sum = force;
        }
        store_matrices(out + first * WIDTH, count, sum);
        return true;
    });
}

}  // namespace

extern "C" int64_t link_sums(const real* links, const int64_t* tables, const int64_t* forward, int64_t batch,
                             int64_t n_links, int64_t walks, int64_t steps, int64_t starts, real* out,
                             int64_t threads) {
    return sums({tables, forward, steps, starts, n_links}, walks, links, nullptr, batch, out, threads);
}

extern "C" int64_t link_forces(const real* links, const int64_t* tables, const int64_t* forward, int64_t batch,
                               int64_t n_links, int64_t walks, int64_t steps, int64_t starts, const int64_t* active,
                               real* out, int64_t threads) {
    return sums({tables, forward, steps, starts, n_links}, walks, links, active, batch, out, threads);
}
