// Kernels for test.py: what the stand-in for a GPU has to do right, and mistakes that it has to find.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>
#define KERNEL extern "C" __global__ void
#define FULL 0xffffffffu

__device__ __forceinline__ uint32_t shared_address(const void *at) { return (uint32_t)__cvta_generic_to_shared(at); }

// C[16, 8] = A[16, 16] · B[8, 16]ᵀ: cp.async into shared memory, ldmatrix, and one product by the warp.
KERNEL mma_bf16(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c) {
    __shared__ __align__(16) __nv_bfloat16 as[16 * 16], bs[8 * 16];
    const unsigned lane = threadIdx.x;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(&as[lane * 8])), "l"(a + lane * 8));
    if (lane < 16) asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(shared_address(&bs[lane * 8])), "l"(b + lane * 8));
    asm volatile("cp.async.commit_group;\n cp.async.wait_group 0;");
    __syncthreads();
    uint32_t x[4], y[2];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(shared_address(&as[lane % 16 * 16 + lane / 16 * 8])));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(y[0]), "=r"(y[1])
                 : "r"(shared_address(&bs[lane % 8 * 16 + lane / 8 % 2 * 8])));
    float d[4] = {0, 0, 0, 0};
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
    for (int i = 0; i < 4; i++) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
}
// The same from B[16, 8], which ldmatrix turns, with the instruction for 8 of K, twice.
KERNEL mma_bf16_turned(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c) {
    extern __shared__ __align__(16) __nv_bfloat16 bs[];
    const unsigned lane = threadIdx.x, group = lane / 4, in = lane % 4;
    for (unsigned i = lane; i < 128; i += 32) bs[i] = b[i];
    __syncwarp();
    uint32_t y[2];
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(y[0]), "=r"(y[1])
                 : "r"(shared_address(&bs[lane % 16 * 8])));
    float d[4] = {0, 0, 0, 0};
    const uint32_t *rows = (const uint32_t *)a;
    for (int k = 0; k < 2; k++)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(rows[group * 8 + k * 4 + in]), "r"(rows[(group + 8) * 8 + k * 4 + in]), "r"(y[k]));
    for (int i = 0; i < 4; i++) c[(group + i / 2 * 8) * 8 + in * 2 + i % 2] = d[i];
}
// C[16, 8] = A[16, 8] · B[8, 8], tf32.
KERNEL mma_tf32(const float *a, const float *b, float *c) {
    const unsigned lane = threadIdx.x, group = lane / 4, in = lane % 4;
    uint32_t x[4], y[2];
    for (int i = 0; i < 4; i++) asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(x[i]) : "f"(a[(group + i % 2 * 8) * 8 + in + i / 2 * 4]));
    for (int i = 0; i < 2; i++) asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y[i]) : "f"(b[(in + i * 4) * 8 + group]));
    float d[4] = {0, 0, 0, 0};
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
    for (int i = 0; i < 4; i++) c[(group + i / 2 * 8) * 8 + in * 2 + i % 2] = d[i];
}

// 16 numbers for each of a block's threads.
KERNEL together(unsigned *out) {
    const unsigned i = threadIdx.x, lane = i % 32;
    unsigned *o = out + i * 16;
    o[0] = __shfl_sync(FULL, i, 5), o[1] = __shfl_up_sync(FULL, i, 3), o[2] = __shfl_down_sync(FULL, i, 3);
    o[3] = __shfl_xor_sync(FULL, i, 9);
    o[4] = __shfl_sync(FULL, i, 5, 8), o[5] = __shfl_up_sync(FULL, i, 3, 8), o[6] = __shfl_down_sync(FULL, i, 3, 8);
    o[7] = __ballot_sync(FULL, lane % 3 == 0), o[8] = __any_sync(FULL, i == 40), o[9] = __all_sync(FULL, i < 40);
    o[10] = __reduce_add_sync(FULL, i), o[11] = (unsigned)__reduce_min_sync(FULL, (int)i - 40), o[12] = __match_any_sync(FULL, i % 5);
    if (lane < 16) o[13] = __shfl_xor_sync(0xffff, i, 1); // halves of a warp go different ways
    else o[13] = __ballot_sync(0xffff0000, lane & 1);
    o[14] = __syncthreads_count(lane < 2), o[15] = __syncthreads_or(i == 33);
}

__device__ __noinline__ unsigned twice(unsigned x, unsigned *memory) { return memory[x % 4] += 2 * x, memory[x % 4]; }
__constant__ float table[4] = {1.5f, 2.5f, -3.5f, 4.5f};
__device__ unsigned counter = 7;
KERNEL language(const int *in, int *out, unsigned n) { // one block of n threads: calls, local arrays, data of the module, switches
    extern __shared__ int dynamic[];
    __shared__ int fixed[64];
    const unsigned i = threadIdx.x;
    unsigned memory[4] = {1, 2, 3, 4};
    dynamic[i] = in[i], fixed[i % 64] = 0;
    __syncthreads();
    atomicAdd(&fixed[in[i] & 63], 1);
    int x = (int)twice(in[i] & 7, memory) + (int)memory[(i + 1) % 4] + dynamic[n - 1 - i];
    switch (in[i] & 7) {
    case 0: x += 11; break;
    case 1: x ^= 0x5555; break;
    case 2: x = -x; break;
    case 3: x = __popc(x); break;
    case 4: x = __clz(x); break;
    case 5: x = __ffs(x); break;
    case 6: x = (int)__brev((unsigned)x); break;
    default: x = (int)__byte_perm((unsigned)x, 0x12345678u, 0x0426); break;
    }
    __syncthreads();
    if (i == 0) atomicAdd(&counter, n);
    out[i] = x + (int)(2 * table[i % 4]) + fixed[i % 64];
}
KERNEL count(unsigned *out) { *out = counter++; }

// Rounding: float to 12 numbers.
KERNEL rounding(const float *in, int *out, unsigned n) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float x = in[i], y = in[(i + 1) % n];
    int *o = out + i * 12;
    o[0] = __float2int_rn(x), o[1] = __float2int_rz(x), o[2] = __float2int_rd(x), o[3] = __float2int_ru(x), o[4] = (int)__float2uint_rn(x);
    o[5] = __bfloat16_as_ushort(__float2bfloat16_rn(x)), o[6] = __half_as_ushort(__float2half_rn(x));
    o[7] = __half_as_ushort(__float2half_rz(x));
    o[8] = __float_as_int(__fadd_rz(x, y)), o[9] = __float_as_int(__fmul_ru(x, y)), o[10] = __float_as_int(x * y + 1.0f);
    o[11] = __float_as_int(__fdiv_rd(x, y));
}
// Sums by atomics: one number in all, for every type.
KERNEL atomics(float *f, double *d, unsigned *u, unsigned long long *l, __nv_bfloat162 *b) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(f, 1.0f), atomicAdd(d, 0.5), atomicMax(u, i), atomicAdd(l, (unsigned long long)i), atomicMin(u + 1, i);
    atomicCAS(u + 2, i, i + 1), atomicAdd(b, __nv_bfloat162(1.0f, 2.0f));
}

// What comparisons say, not a number included.
KERNEL compare(const float *in, int *out, unsigned n) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float x = in[i], y = in[(i + 1) % n];
    const bool less = x < y;
    int bits = less | (!less) << 1 | (x <= y) << 2 | (!(x <= y)) << 3 | (x > y) << 4 | (!(x > y)) << 5 | (x == y) << 6 | (x != y) << 7;
    if (!(x >= y)) bits |= 256;
    out[2 * i] = bits | isnan(x) << 9;
    out[2 * i + 1] = __float_as_int(fminf(x, y)) ^ __float_as_int(fmaxf(x, y));
}

// --- Mistakes -----------------------------------------------------------------------------------------------------------
KERNEL write_at(float *x, unsigned i) { x[i] = 1.0f; }
KERNEL write_to(float *x, unsigned n) { for (unsigned i = 0; i < n; i++) x[i] = 1.0f; }
KERNEL read_at(const float *x, unsigned i, float *out) { *out = x[i]; }
KERNEL write_twice(float2 *x) { *x = make_float2(1, 2); }
KERNEL shared_at(float *out, unsigned i) { extern __shared__ float s[]; s[i] = 1; __syncthreads(); *out = s[i]; }
KERNEL half_a_barrier(float *x) { // one warp waits for another that waits for it elsewhere
    if (threadIdx.x < 32) asm volatile("bar.sync 1, 64;");
    else asm volatile("bar.sync 2, 64;");
    *x = 1;
}
KERNEL half_a_vote(unsigned *x) {
    if (threadIdx.x < 31) *x = __ballot_sync(FULL, 1);
    else asm volatile("bar.sync 1, 64;");
}
KERNEL trapped() { asm volatile("trap;"); }
