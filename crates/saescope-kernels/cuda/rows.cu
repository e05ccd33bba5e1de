// Operators of the decoder on rows of f32: norms, sums, activation functions, gates, rotations. Those whose results are read by
// a product also come with results in bf16. Pointers that may be null are marked so; what is null is left out.
//
// Norms take one block a row. The others go over rows with blockIdx.y and over the elements of a row with blockIdx.x, so that
// no index is divided; any grid will do.
#include <cuda_bf16.h>

__device__ void write(float *out, size_t at, float x) { out[at] = x; }
__device__ void write(__nv_bfloat16 *out, size_t at, float x) { out[at] = __float2bfloat16_rn(x); }

__device__ float sum_of_warp(float x) {
    for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(0xffffffffu, x, i);
    return x;
}

// The sum over a block, the same in all threads; added in one order, so that it is the same each time.
__device__ float sum_of_block(float x, float *shared) {
    x = sum_of_warp(x);
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __syncthreads(); // the last sum has been read
    if (lane == 0) shared[warp] = x;
    __syncthreads();
    float sum = 0.0f;
    for (unsigned w = 0; w < blockDim.x / 32; w++) sum += shared[w];
    return sum;
}

// Layer norm of x [rows, d], or RMS norm if `bias` is null. The mean comes first, so that nothing cancels.
template <class T> __device__ void norm_to(
    const float *__restrict__ x, const float *__restrict__ weight, const float *__restrict__ bias, unsigned d, float eps, T *out)
{
    __shared__ float shared[32];
    const size_t row = (size_t)blockIdx.x * d;
    x += row;
    float mean = 0.0f;
    if (bias) {
        float sum = 0.0f;
        for (unsigned j = threadIdx.x; j < d; j += blockDim.x) sum += x[j];
        mean = sum_of_block(sum, shared) / d;
    }
    float sum = 0.0f;
    for (unsigned j = threadIdx.x; j < d; j += blockDim.x) sum += (x[j] - mean) * (x[j] - mean);
    const float scale = 1.0f / sqrtf(sum_of_block(sum, shared) / d + eps);
    for (unsigned j = threadIdx.x; j < d; j += blockDim.x)
        write(out, row + j, (x[j] - mean) * scale * weight[j] + (bias ? bias[j] : 0.0f));
}

extern "C" __global__ void norm_rows(const float *x, const float *weight, const float *bias, unsigned d, float eps, float *out) {
    norm_to(x, weight, bias, d, eps, out);
}

extern "C" __global__ void norm_rows_bf16(
    const float *x, const float *weight, const float *bias, unsigned d, float eps, __nv_bfloat16 *out)
{
    norm_to(x, weight, bias, d, eps, out);
}

// Calls f with the row and the column of each element of [rows, d].
template <class F> __device__ void each(unsigned rows, unsigned d, F f) {
    for (unsigned row = blockIdx.y; row < rows; row += gridDim.y)
        for (unsigned j = blockIdx.x * blockDim.x + threadIdx.x; j < d; j += gridDim.x * blockDim.x) f(row, j);
}

// x [rows, d] + bias [d] + residual [rows, d]; both may be null.
extern "C" __global__ void add(
    const float *__restrict__ x, const float *__restrict__ bias, const float *__restrict__ residual, unsigned rows, unsigned d,
    float *__restrict__ out)
{
    each(rows, d, [&](unsigned row, unsigned j) {
        const size_t at = (size_t)row * d + j;
        out[at] = x[at] + (bias ? bias[j] : 0.0f) + (residual ? residual[at] : 0.0f);
    });
}

// The activation functions, in the order of the host's enum: tanh's GELU, GELU, ReLU, SiLU.
__device__ float activated(float x, unsigned function) {
    switch (function) {
        case 0: return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * x * (1.0f + 0.044715f * x * x)));
        case 1: return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f));
        case 2: return x < 0.0f ? 0.0f : x; // NaN stays
        default: return x / (1.0f + expf(-x));
    }
}

// function(x [rows, d] + bias [d]); the bias may be null.
template <class T> __device__ void activate_to(
    const float *__restrict__ x, const float *__restrict__ bias, unsigned rows, unsigned d, unsigned function, T *out)
{
    each(rows, d, [&](unsigned row, unsigned j) {
        const size_t at = (size_t)row * d + j;
        write(out, at, activated(x[at] + (bias ? bias[j] : 0.0f), function));
    });
}

extern "C" __global__ void activate(const float *x, const float *bias, unsigned rows, unsigned d, unsigned function, float *out) {
    activate_to(x, bias, rows, d, function, out);
}

extern "C" __global__ void activate_bf16(
    const float *x, const float *bias, unsigned rows, unsigned d, unsigned function, __nv_bfloat16 *out)
{
    activate_to(x, bias, rows, d, function, out);
}

// function(gate) · linear, [rows, d], where a row of x is the gate followed by the linear part.
template <class T> __device__ void gate_to(const float *__restrict__ x, unsigned rows, unsigned d, unsigned function, T *out) {
    each(rows, d, [&](unsigned row, unsigned j) {
        const float *both = x + (size_t)row * 2 * d;
        write(out, (size_t)row * d + j, activated(both[j], function) * both[d + j]);
    });
}

extern "C" __global__ void gate(const float *x, unsigned rows, unsigned d, unsigned function, float *out) {
    gate_to(x, rows, d, function, out);
}

extern "C" __global__ void gate_bf16(const float *x, unsigned rows, unsigned d, unsigned function, __nv_bfloat16 *out) {
    gate_to(x, rows, d, function, out);
}

// Rotates x, whose rows of `heads` · `d_head` elements are `stride` apart, by the angles with these cosines and sines
// [rows, half]. Dimension i < half of a head is paired with half + i; the others stay. out is [rows, heads, d_head].
extern "C" __global__ void rotate(
    const float *__restrict__ x, unsigned stride, const float *__restrict__ cosines, const float *__restrict__ sines,
    unsigned rows, unsigned heads, unsigned d_head, unsigned half, float *__restrict__ out)
{
    const unsigned d = heads * d_head;
    each(rows, d, [&](unsigned row, unsigned j) {
        const float *at = x + (size_t)row * stride + j;
        const unsigned i = j % d_head, pair = i < half ? i : i - half;
        float rotated = *at;
        if (i < 2 * half) {
            const float c = cosines[(size_t)row * half + pair], s = sines[(size_t)row * half + pair];
            // Two products and a sum, each rounded, as everywhere else.
            const float own = __fmul_rn(rotated, c), other = __fmul_rn(i < half ? at[half] : *(at - half), s);
            rotated = i < half ? __fsub_rn(own, other) : __fadd_rn(own, other);
        }
        out[(size_t)row * d + j] = rotated;
    });
}
