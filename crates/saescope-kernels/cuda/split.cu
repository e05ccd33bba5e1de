// Splits x [n] into three parts of bf16, [3, n], whose sum is x: 8 bits of its mantissa each, the highest first.
#include <cuda_bf16.h>

extern "C" __global__ void split(const float *__restrict__ x, size_t n, __nv_bfloat16 *__restrict__ parts) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        float rest = x[i];
        for (int part = 0; part < 3; part++) {
            const __nv_bfloat16 rounded = __float2bfloat16_rn(rest);
            parts[part * n + i] = rounded;
            rest -= __bfloat162float(rounded);
        }
    }
}
