// Attention of queries that each have a path of cached rows, as the branches of a tree of continuations do, in f32:
// z[query, head] = softmax(scores) · values, a score being scale · q·key, then cap · tanh(score / cap) if cap > 0.
//
//   q, z [n, heads, d_head]; keys, values [cached, heads / group * d_head]; all contiguous; d_head 1 to 256
//   query i sees the cached rows tokens[ends[i - 1] .. ends[i]] (from 0 for i = 0), the last `window` of them only
//   blockIdx.x is the query, blockIdx.y the head, gridDim.y the heads
//   128 threads; no dynamic shared memory (about 4 KB static)
//
// A block takes 128 rows of the path at a time. Eight threads take the product of a key, so that they read 128 bytes that
// lie together; then the threads are dealt out over (every `teams`-th row, four columns) for the sum of the values. The
// path can be of any length, as only a running maximum and sums are kept. Sums go in one order everywhere.
#define FULL 0xffffffffu
#define THREADS 128

// Numbers at .. at + 3 of a row of d; zeros beyond its end. `wide` says that rows lie at multiples of 16 bytes.
__device__ __forceinline__ float4 four_of(const float *row, unsigned at, unsigned d, bool wide) {
    if (wide) return at < d ? *(const float4 *)(row + at) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return make_float4(at < d ? row[at] : 0.0f, at + 1 < d ? row[at + 1] : 0.0f,
                       at + 2 < d ? row[at + 2] : 0.0f, at + 3 < d ? row[at + 3] : 0.0f);
}

extern "C" __global__ void __launch_bounds__(THREADS) path_attention(
    const float *q, const float *keys, const float *values, unsigned group, unsigned d_head, const unsigned *tokens,
    const unsigned *ends, float scale, float cap, unsigned window, float *z)
{
    __shared__ float4 query[64], sums[THREADS];
    __shared__ float weights[THREADS], of_warp[4];
    __shared__ unsigned rows[THREADS];
    const unsigned thread = threadIdx.x, lane = thread % 32, warp = thread / 32, d = d_head, heads = gridDim.y;
    const unsigned head = blockIdx.y, end = ends[blockIdx.x], begin = blockIdx.x ? ends[blockIdx.x - 1] : 0;
    const unsigned first = end - begin > window ? end - window : begin;
    const size_t stride = (size_t)(heads / group) * d, at_query = ((size_t)blockIdx.x * heads + head) * d;
    keys += head / group * d, values += head / group * d;
    const bool wide = (((size_t)keys | (size_t)values | 4 * d) & 15) == 0;
    // 4 · in_team ≥ d numbers of a row for a team; at least two teams
    const unsigned in_team = (d + 3) / 4, teams = THREADS / in_team, team = thread / in_team, column = 4 * (thread % in_team);

    if (thread < 64) query[thread] = four_of(q + at_query, 4 * thread, d, (((size_t)q | 4 * d) & 15) == 0);
    float top = -INFINITY, total = 0.0f; // the maximum is the same in all threads, the sum is of this thread's rows
    float4 o = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (unsigned start = first; start < end; start += THREADS) {
        const unsigned count = end - start < THREADS ? end - start : THREADS;
        __syncthreads(); // the last rows and weights have been used
        if (thread < count) rows[thread] = tokens[start + thread];
        __syncthreads();
#pragma unroll 4
        for (unsigned i = 0; i < 8; i++) {
            const unsigned at = 16 * i + thread / 8; // all 32 lanes go on together to the sum below
            const float *key = keys + (at < count ? rows[at] : rows[0]) * stride;
            float sum = 0.0f;
            for (unsigned c = thread % 8; 4 * c < d; c += 8) {
                const float4 a = query[c], b = four_of(key, 4 * c, d, wide);
                sum = fmaf(a.x, b.x, sum), sum = fmaf(a.y, b.y, sum), sum = fmaf(a.z, b.z, sum), sum = fmaf(a.w, b.w, sum);
            }
            __syncwarp();
            for (int n = 1; n < 8; n *= 2) sum += __shfl_xor_sync(FULL, sum, n);
            if (thread % 8 == 0) weights[at] = sum;
        }
        __syncthreads();
        float x = thread < count ? weights[thread] * scale : -INFINITY;
        if (cap > 0.0f && thread < count) x = cap * tanhf(x / cap);
        float most = x;
        for (int i = 1; i < 32; i *= 2) most = fmaxf(most, __shfl_xor_sync(FULL, most, i));
        if (lane == 0) of_warp[warp] = most;
        __syncthreads();
        most = fmaxf(fmaxf(fmaxf(of_warp[0], of_warp[1]), fmaxf(of_warp[2], of_warp[3])), top);
        const float base = most == -INFINITY ? 0.0f : most;
        const float decay = expf(top - base), p = expf(x - base);
        top = most, total = total * decay + p;
        o.x *= decay, o.y *= decay, o.z *= decay, o.w *= decay;
        weights[thread] = p; // each thread has read its own score alone
        __syncthreads();
        if (team < teams) {
#pragma unroll 4
            for (unsigned i = team; i < count; i += teams) {
                const float weight = weights[i];
                const float4 b = four_of(values + rows[i] * stride, column, d, wide);
                o.x = fmaf(weight, b.x, o.x), o.y = fmaf(weight, b.y, o.y);
                o.z = fmaf(weight, b.z, o.z), o.w = fmaf(weight, b.w, o.w);
            }
        }
    }

    for (int i = 1; i < 32; i *= 2) total += __shfl_xor_sync(FULL, total, i);
    if (lane == 0) of_warp[warp] = total; // the maxima were read before the last barrier
    sums[thread] = o;
    __syncthreads();
    total = (of_warp[0] + of_warp[1]) + (of_warp[2] + of_warp[3]);
    if (team > 0) return;
    for (unsigned other = 1; other < teams; other++) {
        const float4 more = sums[other * in_team + thread];
        o.x += more.x, o.y += more.y, o.z += more.z, o.w += more.w;
    }
    const float inverse = total > 0.0f ? 1.0f / total : total; // 0 for an empty path; NaN stays NaN
    const float out[4] = {o.x * inverse, o.y * inverse, o.z * inverse, o.w * inverse};
#pragma unroll
    for (int i = 0; i < 4; i++) if (column + i < d) z[at_query + column + i] = out[i];
}
