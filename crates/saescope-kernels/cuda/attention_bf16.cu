// Causal attention over a ragged batch with grouped key/value heads, by tensor cores: what attention.cu computes, its inputs
// and outputs in f32, but q, k, v and the weights rounded to bf16 before their products. Sums, scores and the softmax are f32,
// and a row's weights are summed before they are rounded.
//
//   q [rows, ...], element i of a head at q[row * q_stride + head * d_head + i]; k and v alike, with head / group
//   z [queries, heads, d_head], contiguous
//   tiles[blockIdx.x]: first query's row, queries (1 to 64), first key's row of the sequence, keys n the first query sees;
//   query i sees keys [max(0, n + i - window), n + i) of its sequence. blockIdx.y is the head, gridDim.y the heads.
//
//   entry               d_head  keys a tile  threads  dynamic shared memory in bytes
//   attention_bf16_64   64      64           128      24576
//   attention_bf16_128  128     64           128      49152
//   attention_bf16_256  256     32           128      65536
//
// A block takes 64 queries, a warp 16 of them. A tile's keys and values go through registers, where they are rounded, to
// shared memory: the values are on their way during the first product and the next keys during the second. Scores, weights
// and sums stay in registers as the products leave them. Tiles start at multiples of their size, so that a query's result
// does not depend on which other queries are in its tile.
#ifdef __CUDACC__
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]

// Four matrices of 8 × 8 bf16: lane l names row l % 8 of matrix l / 8, and gets two numbers of row (if transposed, of column)
// l / 4 of each.
template <bool TRANSPOSED> __device__ __forceinline__ void load_matrices(unsigned (&to)[4], const void *from) {
    const unsigned at = (unsigned)__cvta_generic_to_shared(from);
    if (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at) : "memory");
}
// c [16, 8] += a [16, 16] · b [16, 8], spread over the warp.
__device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ unsigned pair_of(float low, float high) { // as bf16, to nearest
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
__device__ __forceinline__ float power_of_2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float quotient(float a, float b) { return __fdividef(a, b); }
#endif
#define FULL 0xffffffffu
#define THREADS 128
#define QUERIES 64
#define LOG2_E 1.4426950408889634f

// ROWS rows of D numbers on their way from global to shared memory: each thread has one group of four, of every STEP-th row.
template <int ROWS, int D> struct Carried {
    static constexpr int STEP = 4 * THREADS / D, COUNT = ROWS / STEP;
    float4 x[COUNT];

    // Rows from `rows` on are 0. `wide` says that all groups lie at multiples of 16 bytes.
    __device__ __forceinline__ void load(const float *from, unsigned stride, unsigned rows, bool wide) {
        const unsigned row = threadIdx.x / (D / 4);
        from += (size_t)row * stride + 4 * (threadIdx.x % (D / 4));
#pragma unroll
        for (int i = 0; i < COUNT; i++) x[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        const size_t step = (size_t)STEP * stride; // added row by row: offsets kept for all rows would take registers
        if (wide) {
#pragma unroll
            for (int i = 0; i < COUNT; i++, from += step)
                if (row + i * STEP < rows) x[i] = *(const float4 *)from;
        } else {
#pragma unroll
            for (int i = 0; i < COUNT; i++, from += step)
                if (row + i * STEP < rows) x[i] = make_float4(from[0], from[1], from[2], from[3]);
        }
    }
    // As bf16 [ROWS, D]. Eight numbers g of row r lie at g ^ (r & 7), so that those of eight rows are in different banks.
    __device__ __forceinline__ void store(char *to) const {
        const unsigned group = threadIdx.x % (D / 4);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const unsigned row = threadIdx.x / (D / 4) + i * STEP;
            uint2 *at = (uint2 *)(to + row * D * 2 + ((group / 2) ^ (row & 7)) * 16 + group % 2 * 8);
            *at = make_uint2(pair_of(x[i].x, x[i].y), pair_of(x[i].z, x[i].w));
        }
    }
};

template <int D, int KEYS> __device__ __forceinline__ void attend(
    const float *q, const float *k, const float *v, unsigned q_stride, unsigned k_stride, unsigned v_stride, unsigned group,
    const uint4 *tiles, float scale, float cap, unsigned window, float *z)
{
    DYNAMIC_SHARED(char, shared);
    char *const queries = shared, *const keys = queries + QUERIES * D * 2, *const values = keys + KEYS * D * 2;
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned first_row = 16 * warp + lane / 4; // and that eight further down: two rows a thread

    const uint4 tile = tiles[blockIdx.x];
    const unsigned head = blockIdx.y, count = tile.y, seen = tile.w, end = seen + count - 1;
    q += (size_t)tile.x * q_stride + head * D;
    k += (size_t)tile.z * k_stride + head / group * D;
    v += (size_t)tile.z * v_stride + head / group * D;
    const bool q_wide = (((size_t)q | 4 * (size_t)q_stride) & 15) == 0;
    const bool k_wide = (((size_t)k | 4 * (size_t)k_stride) & 15) == 0;
    const bool v_wide = (((size_t)v | 4 * (size_t)v_stride) & 15) == 0;

    // Where a lane's row of the matrices is, but for what the loops add: `a` and `trans` by rows first, `b` by columns first.
    const unsigned swizzle = lane & 7;
    const char *const a_of = queries + (16 * warp + lane % 16) * D * 2;
    const char *const b_of = keys + (lane % 8 + lane / 16 * 8) * D * 2;
    const char *const trans_of = values + lane % 16 * D * 2;
    const unsigned by_row = lane / 16 ^ swizzle, by_column = lane / 8 % 2 ^ swizzle;

    unsigned start = (seen > window ? seen - window : 0) / KEYS * KEYS;
#pragma unroll 1
    for (unsigned row = 0; row < QUERIES; row += 16) {
        Carried<16, D> some;
        some.load(q + (size_t)row * q_stride, q_stride, count > row ? count - row : 0, q_wide);
        some.store(queries + row * D * 2);
    }
    Carried<KEYS, D> carried;
    carried.load(k + (size_t)start * k_stride, k_stride, end - start, k_wide);
    unsigned kept[D == 64 ? D / 16 : 1][4]; // the queries, where registers are left for them
    if (D == 64) {
        __syncthreads();
#pragma unroll
        for (unsigned i = 0; i < D / 16; i++) load_matrices<false>(kept[D == 64 ? i : 0], a_of + (2 * i ^ by_row) * 16);
    }

    // Scores are in units that 2 is raised to: times log2(e). With a cap, cap · tanh(x) is cap - 2 cap / (1 + e^2x).
    const float limit = cap * LOG2_E, factor = cap > 0.0f ? 2.0f * LOG2_E * scale / cap : scale * LOG2_E;
    float o[D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
#pragma unroll 1
    for (; start < end; start += KEYS) {
        carried.store(keys); // all have passed the barrier below since they used the last ones
        carried.load(v + (size_t)start * v_stride, v_stride, end - start, v_wide);
        __syncthreads();
        float s[KEYS / 8][4] = {};
#pragma unroll 4
        for (unsigned i = 0; i < D / 16; i++) {
            unsigned loaded[4];
            if (D != 64) load_matrices<false>(loaded, a_of + (2 * i ^ by_row) * 16);
            const unsigned (&a)[4] = D == 64 ? kept[D == 64 ? i : 0] : loaded;
#pragma unroll
            for (unsigned j = 0; j < KEYS / 16; j++) {
                unsigned b[4];
                load_matrices<false>(b, b_of + 16 * j * D * 2 + (2 * i ^ by_column) * 16);
                multiply(s[2 * j], a, b[0], b[1]);
                multiply(s[2 * j + 1], a, b[2], b[3]);
            }
        }

#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s[j][i] *= factor;
                if (cap > 0.0f) s[j][i] = limit - quotient(2.0f * limit, 1.0f + power_of_2(s[j][i]));
            }
        if (start + KEYS > seen || end > window && start < end - window) { // some query does not see some key
            // Key 8 j + i of the thread is seen by its row h if after <= 8 j + i - 8 h < before.
            const int before = (int)(seen + first_row) - (int)(start + 2 * (lane % 4));
            const int after = before - (int)min(window, 0x40000000u);
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int at = 8 * j + i % 2 - 8 * (i / 2);
                    if (at >= before || at < after) s[j][i] = -INFINITY;
                }
        }
        float base[2], decay[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float most = top[h];
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) most = fmaxf(most, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
            most = fmaxf(most, __shfl_xor_sync(FULL, most, 1));
            most = fmaxf(most, __shfl_xor_sync(FULL, most, 2));
            base[h] = most == -INFINITY ? 0.0f : most; // no key seen yet: the weights below are 0, not NaN
            decay[h] = power_of_2(top[h] - base[h]);
            top[h] = most, total[h] *= decay[h];
        }
        unsigned weights[KEYS / 16][4]; // as the second product's rows, which the first one's sums are already
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float x = power_of_2(s[j][2 * h] - base[h]), y = power_of_2(s[j][2 * h + 1] - base[h]);
                total[h] += x + y;
                weights[j / 2][j % 2 * 2 + h] = pair_of(x, y);
            }
        if (__any_sync(FULL, decay[0] != 1.0f || decay[1] != 1.0f)) { // seldom, after the first few tiles
#pragma unroll
            for (int j = 0; j < D / 8; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) o[j][i] *= decay[i / 2];
        }

        carried.store(values); // all have passed the barrier above since they used the last ones
        if (start + KEYS < end) {
            const unsigned next = start + KEYS;
            carried.load(k + (size_t)next * k_stride, k_stride, end - next, k_wide);
        }
        __syncthreads();
#pragma unroll
        for (unsigned i = 0; i < KEYS / 16; i++)
#pragma unroll
            for (unsigned j = 0; j < D / 16; j++) {
                unsigned b[4];
                load_matrices<true>(b, trans_of + 16 * i * D * 2 + (2 * j ^ by_row) * 16);
                multiply(o[2 * j], weights[i], b[0], b[1]);
                multiply(o[2 * j + 1], weights[i], b[2], b[3]);
            }
    }

    const bool z_wide = ((size_t)z & 7) == 0;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        total[h] += __shfl_xor_sync(FULL, total[h], 1);
        total[h] += __shfl_xor_sync(FULL, total[h], 2);
        const float inverse = total[h] > 0.0f ? 1.0f / total[h] : total[h]; // 0 where no key was seen; NaN stays NaN
        const unsigned row = first_row + 8 * h;
        if (row >= count) continue;
        float *out = z + ((size_t)(tile.x + row) * gridDim.y + head) * D + 2 * (lane % 4);
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
            const float x = o[j][2 * h] * inverse, y = o[j][2 * h + 1] * inverse;
            if (z_wide) *(float2 *)(out + 8 * j) = make_float2(x, y);
            else out[8 * j] = x, out[8 * j + 1] = y;
        }
    }
}

#define ENTRY(name, d, keys, blocks) \
    extern "C" __global__ void __launch_bounds__(THREADS, blocks) name( \
        const float *q, const float *k, const float *v, unsigned q_stride, unsigned k_stride, unsigned v_stride, \
        unsigned group, unsigned, const uint4 *tiles, float scale, float cap, unsigned window, float *z) \
    { attend<d, keys>(q, k, v, q_stride, k_stride, v_stride, group, tiles, scale, cap, window, z); }

ENTRY(attention_bf16_64, 64, 64, 3)
ENTRY(attention_bf16_128, 128, 64, 2)
ENTRY(attention_bf16_256, 256, 32, 2)
