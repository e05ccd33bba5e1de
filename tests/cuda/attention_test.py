# Tests the attention kernels (attention.cu, attention_bf16.cu, paths.cu) on the stand-in for a GPU, against plain loops in
# double precision:  python3 tests/cuda/attention_test.py LIBDIR [--all]      (LIBDIR: what tests/cuda/build printed)
# --all tries every entry with every kind of batch, which takes a few minutes. Needs nvcc ($NVCC or on the PATH) and cc.
import array, ctypes as c, math, os, random, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
KERNELS = os.path.join(HERE, '../../crates/saescope-kernels/cuda')
ALL = 0xffffffff
cuda = c.CDLL(os.path.abspath(sys.argv[1]) + '/libcuda.so.1')

# One tile's results, and of each the sum of the weights times the values' sizes, by which its error is judged; the last
# also in plain f32, to see what error is to be expected. Queries see rows at[first .. last] of k and v.
PLAIN = r'''
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
static float rounded(float x, int bf16) {
    uint32_t u;
    memcpy(&u, &x, 4);
    if (bf16) u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &u, 4);
    return x;
}
void query(const float *q, const float *k, const float *v, uint32_t k_stride, uint32_t v_stride, const uint32_t *at, uint32_t n,
           uint32_t d, float scale, float cap, int bf16, double *out, double *sizes, double *plain, double *largest) {
    double *s = malloc(8 * n), top = -INFINITY, sum = 0;
    float *f = malloc(4 * n), ftop = -INFINITY, fsum = 0;
    for (uint32_t j = 0; j < n; j++) {
        double x = 0;
        float y = 0;
        for (uint32_t i = 0; i < d; i++) {
            const float a = rounded(q[i], bf16), b = rounded(k[(size_t)at[j] * k_stride + i], bf16);
            x += (double)a * b, y = fmaf(a, b, y);
        }
        x *= (double)scale, y *= scale;
        if (fabs(x) > *largest) *largest = fabs(x);
        if (cap > 0) x = cap * tanh(x / cap), y = cap * tanhf(y / cap);
        s[j] = x, f[j] = y;
        top = fmax(top, x), ftop = fmaxf(ftop, y);
    }
    for (uint32_t j = 0; j < n; j++) sum += s[j] = exp(s[j] - top), fsum += f[j] = expf(f[j] - ftop);
    for (uint32_t i = 0; i < d; i++) {
        float p = 0;
        out[i] = sizes[i] = 0;
        for (uint32_t j = 0; j < n; j++) {
            const float x = rounded(v[(size_t)at[j] * v_stride + i], bf16);
            out[i] += s[j] * x / sum, sizes[i] += s[j] * fabsf(x) / sum, p = fmaf(f[j], x, p);
        }
        plain[i] = n ? p / fsum : 0;
    }
    free(s), free(f);
}
'''


def ok(status, what=''):
    assert status == 0, f'{what}: status {status}'


class Buffer:
    """Device memory that holds exactly these numbers: what is read beyond them is found."""
    def __init__(self, kind, values):
        self.host = array.array(kind, values)
        self.n, self.at = len(self.host) * self.host.itemsize, c.c_uint64()
        ok(cuda.cuMemAlloc_v2(c.byref(self.at), c.c_size_t(self.n)), 'alloc')
        ok(cuda.cuMemcpyHtoD_v2(self.at, self.host.tobytes(), c.c_size_t(self.n)), 'copy')

    def get(self):
        data = c.create_string_buffer(self.n)
        ok(cuda.cuMemcpyDtoH_v2(data, self.at, c.c_size_t(self.n)), 'copy')
        return array.array(self.host.typecode, data.raw)

    def free(self):
        ok(cuda.cuMemFree_v2(self.at), 'free')


def launch(f, grid, args, shared):
    cells = [c.c_uint64(a[0].at.value + 4 * a[1]) if isinstance(a, tuple) else c.c_float(a) if isinstance(a, float) else c.c_uint32(a) for a in args]
    pointers = (c.c_void_p * len(cells))(*[c.addressof(x) for x in cells])
    ok(cuda.cuFuncSetAttribute(f, 8, c.c_int(shared)), 'shared memory')
    ok(cuda.cuLaunchKernel(f, *[c.c_uint(x) for x in (*grid, 1, 128, 1, 1, shared)], None, pointers, None), 'launch')


def normal(n, size=1.0):
    return array.array('f', (random.gauss(0, size) for _ in range(n)))


class Judge:
    def __init__(self, heads, d, bf16):
        self.heads, self.d, self.bf16 = heads, d, bf16
        self.worst = self.plain = self.relative = 0.0
        self.largest = c.c_double()

    def query(self, plain, z, index, head, q, q_at, k, v, kv_at, strides, at, scale, cap):
        """Compares one query and head. q, k, v are the host's arrays; kv_at is where the sequence's first key's head begins."""
        d, n = self.d, len(at)
        out, sizes, simple = (c.c_double * d)(), (c.c_double * d)(), (c.c_double * d)()
        def pointer(x, i):
            return c.c_void_p(x.buffer_info()[0] + 4 * i)
        plain.query(pointer(q, q_at), pointer(k, kv_at), pointer(v, kv_at), *map(c.c_uint32, strides), (c.c_uint32 * n)(*at), c.c_uint32(n), c.c_uint32(d),
                    c.c_float(scale), c.c_float(cap), int(self.bf16), out, sizes, simple, c.byref(self.largest))
        at_z = (index * self.heads + head) * d
        allowed = (2 ** -8 if self.bf16 else 3e-6) + 3e-6 * self.largest.value # a score's own rounding, times its weight
        for i in range(d):
            error = abs(z[at_z + i] - out[i])
            assert error <= allowed * sizes[i] + 1e-30, f'query {index}, head {head}, number {i}: {z[at_z + i]} instead of {out[i]}'
            self.worst, self.plain = max(self.worst, error), max(self.plain, abs(simple[i] - out[i]))
            self.relative = max(self.relative, error / (sizes[i] or 1))


def shared_of(name, d):
    return {'attention_64': 49152, 'attention_128': 65536, 'attention_256': 98304, 'attention_any': 256 * ((d + 31) // 32 * 32) + 32768,
            'attention_bf16_64': 24576, 'attention_bf16_128': 49152, 'attention_bf16_256': 65536}[name]


def test_batch(f, plain, name, d, queries, pasts, group=1, kv_heads=1, window=ALL, cap=0.0, size=1.0, shift=0, slices=False, rows=64):
    """`shift` moves everything off its alignment; `slices`: q, k and v are parts of wider rows; `rows`: of a tile."""
    heads, bf16 = group * kv_heads, 'bf16' in name
    pad = (3 if shift else 0) + (heads + 2 * kv_heads) * d if slices else 0
    q_stride, k_stride, v_stride = pad or heads * d, pad or kv_heads * d, pad or kv_heads * d
    n_q, n_k = sum(queries), sum(queries) + sum(pasts)
    q = normal(shift + (n_q - 1) * q_stride + heads * d, size)
    k, v = normal(shift + (n_k - 1) * k_stride + kv_heads * d, size), normal(shift + (n_k - 1) * v_stride + kv_heads * d)
    scale, tiles, q0, k0 = c.c_float(1 / math.sqrt(d)).value, [], 0, 0
    for n, past in zip(queries, pasts):
        tiles += [(q0 + at, min(rows, n - at), k0, past + at + 1) for at in range(0, n, rows)]
        q0, k0 = q0 + n, k0 + n + past
    buffers = [Buffer('f', x) for x in (q, k, v)] + [Buffer('I', [x for t in tiles for x in t]), Buffer('f', [math.nan] * (shift + n_q * heads * d))]
    dq, dk, dv, dt, dz = buffers
    def run():
        launch(f, (len(tiles), heads), [(dq, shift), (dk, shift), (dv, shift), q_stride, k_stride, v_stride, group, d, (dt, 0), scale, float(cap), window, (dz, shift)], shared_of(name, d))
        return dz.get()[shift:]
    z = run()
    assert z.tobytes() == run().tobytes(), 'not the same twice'
    judge = Judge(heads, d, bf16)
    for first, n, key, seen in tiles:
        for i in range(n):
            for head in range(heads):
                at = range(max(0, seen + i - window), seen + i)
                judge.query(plain, z, first + i, head, q, shift + (first + i) * q_stride + head * d, k, v, shift + key * k_stride + head // group * d,
                            (k_stride, v_stride), at, scale, cap)
    for b in buffers:
        b.free()
    print(f'  {name} d {d}, {n_q} queries, {n_k} keys, group {group}, window {window if window != ALL else "all"}, cap {cap}, scores to {judge.largest.value:.3g}'
          f'{", shifted" if shift else ""}{", slices" if slices else ""}: {judge.worst:.2g} off, {judge.relative:.2g} relative, plain f32 {judge.plain:.2g}', flush=True)
    return z


def test_same(f, plain, name, d):
    """A query's result is the same bits whatever tile it is in."""
    z = []
    for rows in (64, 17, 1):
        random.seed(5)
        z.append(test_batch(f, plain, name, d, [70, 3], [30, 90], window=100, rows=rows))
    assert z[0].tobytes() == z[1].tobytes() == z[2].tobytes()


def test_paths(f, plain, d, lengths, group=1, kv_heads=1, window=ALL, cap=0.0, size=1.0, shift=0):
    heads, cached = group * kv_heads, 150
    tokens = [random.randrange(cached) for _ in range(sum(lengths))]
    ends = [sum(lengths[:i + 1]) for i in range(len(lengths))]
    stride, scale = kv_heads * d, c.c_float(1 / math.sqrt(d)).value
    q, k, v = normal(shift + len(lengths) * heads * d, size), normal(shift + cached * stride, size), normal(shift + cached * stride)
    buffers = [Buffer('f', x) for x in (q, k, v)] + [Buffer('I', tokens), Buffer('I', ends), Buffer('f', [math.nan] * (shift + len(lengths) * heads * d))]
    dq, dk, dv, dt, de, dz = buffers
    launch(f, (len(lengths), heads), [(dq, shift), (dk, shift), (dv, shift), group, d, (dt, 0), (de, 0), scale, float(cap), window, (dz, shift)], 0)
    z, judge = dz.get()[shift:], Judge(heads, d, False)
    for i, end in enumerate(ends):
        for head in range(heads):
            judge.query(plain, z, i, head, q, shift + (i * heads + head) * d, k, v, shift + head // group * d, (stride, stride),
                        tokens[max(end - lengths[i], end - window):end], scale, cap)
    for b in buffers:
        b.free()
    print(f'  path_attention d {d}, {len(lengths)} paths to {max(lengths)}, group {group}, window {window if window != ALL else "all"}, cap {cap}, '
          f'scores to {judge.largest.value:.3g}: {judge.worst:.2g} off, plain f32 {judge.plain:.2g}', flush=True)


def functions(folder, file, *names):
    ptx, m = f'{folder}/{file}.ptx', c.c_void_p()
    subprocess.run([os.environ.get('NVCC', 'nvcc'), '-ptx', '-arch=compute_80', '-O3', '-std=c++17', f'{KERNELS}/{file}.cu', '-o', ptx], check=True)
    ok(cuda.cuModuleLoadData(c.byref(m), open(ptx, 'rb').read() + b'\0'), file)
    found = {}
    for name in names:
        found[name] = c.c_void_p()
        ok(cuda.cuModuleGetFunction(c.byref(found[name]), m, name.encode()), name)
    return found


def main():
    everything, began, context, device = '--all' in sys.argv, time.time(), c.c_void_p(), c.c_int()
    random.seed(1)
    ok(cuda.cuInit(0)), ok(cuda.cuDeviceGet(c.byref(device), 0)), ok(cuda.cuDevicePrimaryCtxRetain(c.byref(context), device)), ok(cuda.cuCtxSetCurrent(context))
    with tempfile.TemporaryDirectory() as folder:
        open(f'{folder}/plain.c', 'w').write(PLAIN)
        subprocess.run(['cc', '-O2', '-shared', '-fPIC', '-o', f'{folder}/plain.so', f'{folder}/plain.c', '-lm'], check=True)
        plain = c.CDLL(f'{folder}/plain.so')
        f = functions(folder, 'attention', 'attention_64', 'attention_128', 'attention_256', 'attention_any')
        f |= functions(folder, 'attention_bf16', 'attention_bf16_64', 'attention_bf16_128', 'attention_bf16_256')
        f |= functions(folder, 'paths', 'path_attention')
        ragged, pasts = [1, 2, 63, 64, 65, 200], [0, 70, 1, 64, 63, 5]
        few, before = [1, 65, 40], [40, 3, 0]
        for name in f:
            if name == 'path_attention':
                continue
            exact = name.rsplit('_', 1)[1]
            for d in (1, 8, 20, 64, 80, 96, 128, 200, 256) if exact == 'any' and everything else (1, 20, 80) if exact == 'any' else (int(exact),):
                def run(*a, **b):
                    test_batch(f[name], plain, name, d, *a, **b)
                run(few, before, group=2, kv_heads=2)
                run(few, before, group=4, window=100, cap=5.0, slices=True, shift=1)
                run([3, 64], [0, 9], size=3.0 * d ** 0.25, cap=30.0, window=64)
                if everything:
                    run(few, [0, 0, 0], group=8, slices=True)
                    run(few, before, size=100.0, window=3) # scores to 1e4 and more
                    run(few, before, size=100.0, shift=3)
                    run(few, [300, 129, 0], window=1)
                if exact in ('64', 'any') and everything and d in (64, 80):
                    run(ragged, [0] * 6), run(ragged, pasts, group=2, slices=True), run(ragged, pasts, window=64), run(ragged, pasts, window=100, shift=2)
            if everything or exact == '64':
                test_same(f[name], plain, name, d)
        for d in (1, 8, 20, 64, 80, 96, 128, 255, 256) if everything else (20, 64, 256):
            def run(*a, **b):
                test_paths(f['path_attention'], plain, d, *a, **b)
            lengths = [1, 2, 0, 127, 128, 129, 500]
            run(lengths, group=2, kv_heads=2), run(lengths, group=4, window=100, cap=5.0, shift=1)
            if everything:
                run(lengths, window=1), run(lengths, window=3), run(lengths, size=100.0), run(lengths, group=8, cap=30.0)
    print(f'attention: all right, {time.time() - began:.0f} s')


main()
