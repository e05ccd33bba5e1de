// Causal attention in f32 over a ragged batch, with grouped key/value heads: z[query, head] = softmax(scores) · v, where
// a score is scale · q·k, then cap · tanh(score / cap) if cap > 0.
//
//   q [rows, ...], element i of a head at q[row * q_stride + head * d_head + i]; k and v alike, with head / group
//   z [queries, heads, d_head], contiguous
//   tiles[blockIdx.x]: first query's row, queries (1 to 64), first key's row of the sequence, keys n the first query sees;
//   query i sees keys [max(0, n + i - window), n + i) of its sequence. blockIdx.y is the head, gridDim.y the heads.
//
//   entry          d_head    threads  dynamic shared memory in bytes
//   attention_64   64        128      49152
//   attention_128  128       128      65536
//   attention_256  256       128      98304
//   attention_any  1 to 256  128      256 * (d_head rounded up to a multiple of 32) + 32768
//
// A block takes 64 queries and goes over the keys 64 at a time, with a running maximum and sum for each query. Queries stay
// in shared memory; keys pass through in chunks of 64 keys × 32 numbers, values in chunks of 32 keys × 64 numbers, the next
// chunk on its way while the last is used. Key tiles start at multiples of 64 and sums go in one order, so that a query's
// result does not depend on which other queries are in its tile. A warp has 16 queries, a thread 8 queries × 4 keys.
#ifdef __CUDACC__
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]

// Puts BYTES into shared memory in the background; zeros where there is nothing to read.
template <int BYTES> __device__ __forceinline__ void copy(float *to, const float *from, bool valid) {
    const unsigned at = (unsigned)__cvta_generic_to_shared(to), size = valid ? BYTES : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(at), "l"(from), "n"(BYTES), "r"(size) : "memory");
}
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#endif
#define FULL 0xffffffffu
#define THREADS 128
#define QUERIES 64
#define KEYS 64
#define CHUNK 2048 // floats

// Starts to copy [rows, width] floats to shared memory as [ROWS, columns], zeros around it. Group c of four in row r lies at
// c ^ (r & SWIZZLE), so that threads that read one group of several rows read from different banks.
template <int ROWS, int SWIZZLE> __device__ __forceinline__ void fetch(
    float *to, unsigned columns, const float *from, unsigned stride, unsigned rows, unsigned width, bool wide)
{
    if (wide) {
        const unsigned groups = columns / 4;
#pragma unroll 2
        for (unsigned i = threadIdx.x; i < ROWS * groups; i += THREADS) {
            const unsigned row = i / groups, group = i % groups;
            const bool valid = row < rows && 4 * group < width;
            const float *at = valid ? from + (size_t)row * stride + 4 * group : from;
            copy<16>(to + row * columns + 4 * (group ^ (row & SWIZZLE)), at, valid);
        }
    } else {
#pragma unroll 1
        for (unsigned i = threadIdx.x; i < ROWS * columns; i += THREADS) {
            const unsigned row = i / columns, column = i % columns;
            const bool valid = row < rows && column < width;
            const float *at = valid ? from + (size_t)row * stride + column : from;
            copy<4>(to + row * columns + (column ^ 4 * (row & SWIZZLE)), at, valid);
        }
    }
}

__device__ __forceinline__ unsigned less(unsigned a, unsigned b) { return a > b ? a - b : 0; }

// D is d_head, or, if not EXACT, the most that it can be.
template <int D, bool EXACT> __device__ __forceinline__ void attend(
    const float *q, const float *k, const float *v, unsigned q_stride, unsigned k_stride, unsigned v_stride, unsigned group,
    unsigned d_head, const uint4 *tiles, float scale, float cap, unsigned window, float *z)
{
    DYNAMIC_SHARED(float, shared);
    const unsigned d = EXACT ? D : d_head, width = EXACT ? D : (d + 31) / 32 * 32, parts = width / 32;
    float *const queries = shared, *const chunks = queries + QUERIES * width, *const weights = chunks + 2 * CHUNK;
    // The lowest bit of the lane tells rows apart and the others columns: neighbors then share the addresses that they read.
    const unsigned warp = threadIdx.x / 32, odd = threadIdx.x % 2, column = threadIdx.x % 32 / 2;
    const unsigned first_row = 16 * warp + odd; // and every second one from there: eight rows a thread

    const uint4 tile = tiles[blockIdx.x];
    const unsigned head = blockIdx.y, count = tile.y, seen = tile.w, end = seen + count - 1;
    q += (size_t)tile.x * q_stride + head * d;
    k += (size_t)tile.z * k_stride + head / group * d;
    v += (size_t)tile.z * v_stride + head / group * d;
    const bool q_wide = (((size_t)q | 4 * (size_t)q_stride | 4 * d) & 15) == 0;
    const bool k_wide = (((size_t)k | 4 * (size_t)k_stride | 4 * d) & 15) == 0;
    const bool v_wide = (((size_t)v | 4 * (size_t)v_stride | 4 * d) & 15) == 0;

    float o[8][D / 64][4] = {}, top[8], total[8];
#pragma unroll
    for (int r = 0; r < 8; r++) top[r] = -INFINITY, total[r] = 0.0f;

    unsigned start = less(seen, window) / KEYS * KEYS, current = 0;
    fetch<QUERIES, 1>(queries, width, q, q_stride, count, d, q_wide);
    fetch<KEYS, 7>(chunks, 32, k + (size_t)start * k_stride, k_stride, end - start, d, k_wide);
#pragma unroll 1
    for (; start < end; start += KEYS) {
        float s[8][4] = {};
#pragma unroll 1
        for (unsigned part = 0; part < parts; part++) {
            wait_for_copies();
            __syncthreads(); // the chunk is here, and the other one has been used
            float *const next = chunks + (current ^ CHUNK);
            if (part + 1 < parts) {
                const float *from = k + (size_t)start * k_stride + 32 * (part + 1);
                fetch<KEYS, 7>(next, 32, from, k_stride, end - start, d - 32 * (part + 1), k_wide);
            } else {
                fetch<32, 0>(next, 64, v + (size_t)start * v_stride, v_stride, end - start, d, v_wide);
            }
            const float4 *a_of = (const float4 *)queries + first_row * (width / 4);
            const float4 *b_of = (const float4 *)(chunks + current) + column * 8;
#pragma unroll 2
            for (unsigned i = 0; i < 8; i++) { // four numbers of a head at a time
                float4 b[4];
#pragma unroll
                for (int j = 0; j < 4; j++) b[j] = b_of[16 * 8 * j + (i ^ (column & 7))];
#pragma unroll
                for (int r = 0; r < 8; r++) {
                    const float4 a = a_of[2 * r * (width / 4) + ((8 * part + i) ^ odd)];
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        s[r][j] = fmaf(a.x, b[j].x, s[r][j]);
                        s[r][j] = fmaf(a.y, b[j].y, s[r][j]);
                        s[r][j] = fmaf(a.z, b[j].z, s[r][j]);
                        s[r][j] = fmaf(a.w, b[j].w, s[r][j]);
                    }
                }
            }
            current ^= CHUNK;
        }

        const bool partial = start + KEYS > seen || start < less(end, window); // some query does not see some key
        // The thread's row r sees its key j if after <= 16 j - 2 r < before.
        const int before = (int)(seen + first_row) - (int)(start + column), after = before - (int)min(window, 0x40000000u);
#pragma unroll
        for (int r = 0; r < 8; r++) {
            float most = top[r];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float x = s[r][j] * scale;
                if (cap > 0.0f) x = cap * tanhf(x * (1.0f / cap));
                if (partial && (16 * j - 2 * r >= before || 16 * j - 2 * r < after)) x = -INFINITY;
                s[r][j] = x, most = fmaxf(most, x);
            }
#pragma unroll
            for (int i = 2; i < 32; i *= 2) most = fmaxf(most, __shfl_xor_sync(FULL, most, i));
            const float base = most == -INFINITY ? 0.0f : most; // no key seen yet: the weights below are 0, not NaN
            const float decay = expf(top[r] - base);
            top[r] = most, total[r] *= decay;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float p = expf(s[r][j] - base);
                total[r] += p;
                weights[(first_row + 2 * r) * KEYS + ((column + 16 * j) ^ 16 * odd)] = p;
            }
#pragma unroll
            for (int j = 0; j < D / 64; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) o[r][j][i] *= decay;
        }

#pragma unroll
        for (unsigned j = 0; j < D / 64; j++) {
            if (64 * j >= d) break;
#pragma unroll 1
            for (unsigned half = 0; half < 2; half++) {
                wait_for_copies();
                __syncthreads();
                float *const next = chunks + (current ^ CHUNK);
                const bool more = 64 * (j + 1) < d;
                if (half == 0 || more) {
                    const unsigned key = start + 32 * (half ^ 1), from = 64 * (j + half);
                    fetch<32, 0>(next, 64, v + (size_t)key * v_stride + from, v_stride, less(end, key), d - from, v_wide);
                } else if (start + KEYS < end) {
                    const unsigned key = start + KEYS;
                    fetch<KEYS, 7>(next, 32, k + (size_t)key * k_stride, k_stride, end - key, d, k_wide);
                }
                const float4 *a_of = (const float4 *)weights + first_row * (KEYS / 4);
                const float4 *b_of = (const float4 *)(chunks + current) + column;
#pragma unroll 2
                for (unsigned i = 0; i < 8; i++) { // four keys at a time
                    float4 b[4];
#pragma unroll
                    for (int n = 0; n < 4; n++) b[n] = b_of[(4 * i + n) * 16];
#pragma unroll
                    for (int r = 0; r < 8; r++) {
                        const float4 a = a_of[2 * r * (KEYS / 4) + ((8 * half + i) ^ 4 * odd)];
                        const float by[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
                        for (int n = 0; n < 4; n++) {
                            o[r][j][0] = fmaf(by[n], b[n].x, o[r][j][0]);
                            o[r][j][1] = fmaf(by[n], b[n].y, o[r][j][1]);
                            o[r][j][2] = fmaf(by[n], b[n].z, o[r][j][2]);
                            o[r][j][3] = fmaf(by[n], b[n].w, o[r][j][3]);
                        }
                    }
                }
                current ^= CHUNK;
            }
        }
    }

    const bool z_wide = (((size_t)z | 4 * d) & 15) == 0;
#pragma unroll
    for (int r = 0; r < 8; r++) {
        const unsigned row = first_row + 2 * r;
#pragma unroll
        for (int i = 2; i < 32; i *= 2) total[r] += __shfl_xor_sync(FULL, total[r], i);
        const float inverse = total[r] > 0.0f ? 1.0f / total[r] : total[r]; // 0 where no key was seen; NaN stays NaN
        if (row >= count) continue;
        float *out = z + ((size_t)(tile.x + row) * gridDim.y + head) * d;
#pragma unroll
        for (int j = 0; j < D / 64; j++) {
            const unsigned at = 64 * j + 4 * column;
#pragma unroll
            for (int i = 0; i < 4; i++) o[r][j][i] *= inverse;
            if (z_wide) {
                if (at < d) *(float4 *)(out + at) = make_float4(o[r][j][0], o[r][j][1], o[r][j][2], o[r][j][3]);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) if (at + i < d) out[at + i] = o[r][j][i];
            }
        }
    }
}

#define ENTRY(name, d, exact, blocks) \
    extern "C" __global__ void __launch_bounds__(THREADS, blocks) name( \
        const float *q, const float *k, const float *v, unsigned q_stride, unsigned k_stride, unsigned v_stride, \
        unsigned group, unsigned d_head, const uint4 *tiles, float scale, float cap, unsigned window, float *z) \
    { attend<d, exact>(q, k, v, q_stride, k_stride, v_stride, group, d_head, tiles, scale, cap, window, z); }

ENTRY(attention_64, 64, true, 3)
ENTRY(attention_128, 128, true, 2)
ENTRY(attention_256, 256, true, 2)
ENTRY(attention_any, 256, false, 2)
