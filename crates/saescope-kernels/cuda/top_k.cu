// The k activations of largest magnitude in each row of pre-activations [rows, width], of equal ones the lowest index;
// ascending by index. One block takes one row: three histogram passes over the bits find the k-th largest, one pass takes
// what is not below.
#define FULL 0xffffffffu
#define BINS 2048

// The activation of a feature: (pre + bias) · norm; `norms` may be null.
__device__ float value_of(const float *pre, const float *bias, const float *norms, unsigned j) {
    const float sum = pre[j] + bias[j];
    return norms ? sum * norms[j] : sum;
}

// What an activation counts by: the bits of its magnitude, which order as positive floats do. 0 for what cannot be among
// the largest: what is 0, or negative unless `is_signed`. NaN counts most, for an error that names it.
__device__ unsigned key_of(float value, bool is_signed) {
    if (value != value) return 0xffffffffu;
    const float size = is_signed ? fabsf(value) : value;
    return size > 0.0f ? __float_as_uint(size) : 0u;
}

extern "C" __global__ void top_k(
    const float *__restrict__ pre, const float *__restrict__ bias, const float *__restrict__ norms, unsigned width, unsigned k,
    unsigned is_signed, unsigned *__restrict__ counts, unsigned *__restrict__ features, float *__restrict__ values)
{
    __shared__ unsigned bins[BINS], prefix, wanted, is_found, above[32], equal[32];
    const unsigned row = blockIdx.x, thread = threadIdx.x, threads = blockDim.x, lane = thread % 32, warp = thread / 32;
    const float *x = pre + (size_t)row * width;
    if (thread == 0) prefix = 0, wanted = k;
    const unsigned shifts[3] = {21, 10, 0}, bits[3] = {11, 11, 10};
    for (int pass = 0; pass < 3; pass++) {
        const unsigned shift = shifts[pass], n = 1u << bits[pass];
        for (unsigned i = thread; i < n; i += threads) bins[i] = 0;
        __syncthreads();
        for (unsigned j = thread; j < width; j += threads) {
            const unsigned key = key_of(value_of(x, bias, norms, j), is_signed);
            // Only keys whose higher bits are those of the k-th largest. Integers: the order of the additions does not matter.
            if (key && (pass == 0 || key >> (shift + bits[pass]) == prefix)) atomicAdd(&bins[key >> shift & (n - 1)], 1u);
        }
        __syncthreads();
        if (thread == 0) { // from the largest down
            unsigned bin = n, left = wanted, found = 0;
            while (bin-- > 0) {
                if (bins[bin] >= left) { found = 1; break; }
                left -= bins[bin];
            }
            prefix = found ? prefix << bits[pass] | bin : 0;
            wanted = found ? left : 0; // the number of equal ones that are taken
            is_found = found;
        }
        __syncthreads();
        if (!is_found) break; // fewer than k are candidates: prefix is 0, and all of them are taken
    }
    const unsigned least = prefix, ties = wanted;
    unsigned taken = 0, tied = 0; // before this stretch of the row; the same in all threads
    for (unsigned start = 0; start < width; start += threads) {
        const unsigned j = start + thread;
        const float value = j < width ? value_of(x, bias, norms, j) : 0.0f;
        const unsigned key = j < width ? key_of(value, is_signed) : 0u;
        const unsigned mask_above = __ballot_sync(FULL, key > least), mask_equal = __ballot_sync(FULL, key && key == least);
        if (lane == 0) above[warp] = __popc(mask_above), equal[warp] = __popc(mask_equal);
        __syncthreads();
        unsigned at = taken, tie = tied;
        for (unsigned w = 0; w < threads / 32; w++) {
            if (w < warp) at += above[w], tie += equal[w];
            taken += above[w], tied += equal[w];
        }
        const unsigned lower = (1u << lane) - 1;
        at += __popc(mask_above & lower), tie += __popc(mask_equal & lower);
        at += min(tie, ties); // the equal ones before this one that were taken
        if (key > least || (key && key == least && tie < ties)) {
            features[(size_t)row * k + at] = j;
            values[(size_t)row * k + at] = value;
        }
        __syncthreads();
    }
    if (thread == 0) counts[row] = taken + min(tied, ties);
}
