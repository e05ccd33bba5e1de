// The active features of rows of pre-activations [rows, width], per row in ascending order, without atomics, so that the
// result is the same each time. Pointers that may be null are marked so.
#define FULL 0xffffffffu

// A feature is active if pre + bias > cut and its activation > threshold. The activation is pre + bias or, if `factor` and
// `offset` are not null, pre · factor + offset. What is NaN counts as active, for an error that names it. One warp takes one
// row. The counts go on from tile to tile; one above `capacity` says that some features were left out.
extern "C" __global__ void select_above(
    const float *__restrict__ pre, const float *__restrict__ bias, const float *__restrict__ cut,
    const float *__restrict__ factor, const float *__restrict__ offset, float threshold, unsigned rows, unsigned width,
    unsigned first, unsigned capacity, unsigned *__restrict__ counts, unsigned *__restrict__ features, float *__restrict__ values)
{
    const unsigned row = blockIdx.x * blockDim.y + threadIdx.y, lane = threadIdx.x;
    if (row >= rows) return;
    const float *x = pre + (size_t)row * width;
    const unsigned lower = (1u << lane) - 1;
    unsigned count = counts[row];
    for (unsigned start = 0; start < width; start += 32) {
        const unsigned j = start + lane;
        const bool is_inside = j < width;
        const float sum = is_inside ? x[j] + bias[j] : 0.0f;
        bool active = is_inside && !(sum <= cut[j]);
        float value = sum;
        if (factor && active) {
            value = __fmul_rn(x[j], factor[j]) + offset[j];
            active = !(value <= threshold);
        }
        const unsigned mask = __ballot_sync(FULL, active);
        if (active) {
            const unsigned at = count + __popc(mask & lower);
            if (at < capacity) {
                features[(size_t)row * capacity + at] = first + j;
                values[(size_t)row * capacity + at] = value;
            }
        }
        count += __popc(mask);
    }
    if (lane == 0) counts[row] = count;
}

// Moves rows of `capacity` elements together: row r to out[ends[r - 1] .. ends[r]], with ends[-1] = 0. One warp takes one row.
extern "C" __global__ void compact(
    const unsigned *__restrict__ features, const float *__restrict__ values, const unsigned *__restrict__ ends, unsigned rows,
    unsigned capacity, unsigned *__restrict__ out_features, float *__restrict__ out_values)
{
    const unsigned row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    const unsigned start = row ? ends[row - 1] : 0, count = ends[row] - start;
    for (unsigned i = threadIdx.x; i < count; i += 32) {
        out_features[start + i] = features[(size_t)row * capacity + i];
        out_values[start + i] = values[(size_t)row * capacity + i];
    }
}

// The index of the first element of x [n] that is NaN or infinite goes to `first`, which starts as the largest integer.
extern "C" __global__ void find_not_finite(const float *__restrict__ x, size_t n, unsigned long long *__restrict__ first) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
        if (!(fabsf(x[i]) <= 3.4028235e38f)) atomicMin(first, (unsigned long long)i);
}
