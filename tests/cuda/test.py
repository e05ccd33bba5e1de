# Tests the stand-ins for a GPU:  python3 tests/cuda/test.py LIBDIR [--ptx FOLDER] [--sweep]
# LIBDIR: what tests/cuda/build printed. Needs nvcc ($NVCC or on the PATH). candle's kernels are found in cargo's registry;
# without them, those tests are left out. --ptx: a folder where they are compiled already
# (target/…/build/candle-kernels-…/out). --sweep: translate each of candle's entries, and compile every third.
import ctypes as c, math, os, random, struct, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction as Q

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
LIBS = os.path.abspath(sys.argv[1])
OPTIONS = sys.argv[2:]
NVCC = os.environ.get('NVCC', 'nvcc')
cuda = c.CDLL(f'{LIBS}/libcuda.so.1', c.RTLD_GLOBAL)
MODULES = ('affine', 'binary', 'cast', 'fill', 'indexing', 'reduce', 'sort', 'ternary', 'unary')


def ok(status, what=''):
    assert status == 0, f'{what}: status {status}'


class Buffer:
    """Device memory of numbers of one type ('f', 'I', 'H', …)."""
    def __init__(self, kind, values):
        self.kind, self.n = kind, len(values)
        self.at = c.c_uint64()
        ok(cuda.cuMemAlloc_v2(c.byref(self.at), c.c_size_t(self.bytes() or 1)), 'alloc')
        data = struct.pack(f'{self.n}{kind}', *values)
        ok(cuda.cuMemcpyHtoD_v2(self.at, data, c.c_size_t(len(data))), 'copy')

    def bytes(self):
        return self.n * struct.calcsize(self.kind)

    def get(self):
        data = c.create_string_buffer(max(self.bytes(), 1))
        ok(cuda.cuMemcpyDtoH_v2(data, self.at, c.c_size_t(self.bytes())), 'copy')
        return list(struct.unpack(f'{self.n}{self.kind}', data.raw[:self.bytes()]))

    def free(self):
        return cuda.cuMemFree_v2(self.at)


def start():
    assert cuda.cuCtxSynchronize() == 3
    ok(cuda.cuInit(0))
    context, device = c.c_void_p(), c.c_int()
    ok(cuda.cuDeviceGet(c.byref(device), 0))
    assert cuda.cuDeviceGet(c.byref(device), 1) == 101
    ok(cuda.cuDevicePrimaryCtxRetain(c.byref(context), device))
    ok(cuda.cuCtxSetCurrent(context))


def compiled(path, folder, *options):
    out = f'{folder}/{os.path.basename(path)[:-3]}.ptx'
    if not os.path.exists(out):
        subprocess.run([NVCC, '-ptx', '-arch=compute_80', '-O3', '-std=c++17', '--expt-relaxed-constexpr', *options, path, '-o', out],
                       check=True)
    return out


def module(ptx):
    m = c.c_void_p()
    ok(cuda.cuModuleLoadData(c.byref(m), open(ptx, 'rb').read() + b'\0'), 'module')
    return m


def function(m, name):
    f = c.c_void_p()
    ok(cuda.cuModuleGetFunction(c.byref(f), m, name.encode()), name)
    return f


def try_launch(f, grid, block, args, shared=0):
    """Arguments: buffers, None (null), integers (32 bits), ('Q', …) and the like."""
    cells = []
    for a in args:
        kind, v = ('Q', a.at.value) if isinstance(a, Buffer) else ('Q', 0) if a is None else a if isinstance(a, tuple) else ('I', a)
        cells.append(c.create_string_buffer(struct.pack(kind, v), 8))
    pointers = (c.c_void_p * max(len(cells), 1))(*[c.addressof(x) for x in cells])
    dims = [(list(d) + [1, 1])[:3] if isinstance(d, (tuple, list)) else [d, 1, 1] for d in (grid, block)]
    return cuda.cuLaunchKernel(f, *[c.c_uint(x) for d in dims for x in d], c.c_uint(shared), None, pointers, None)


def launch(f, grid, block, args, shared=0):
    ok(try_launch(f, grid, block, args, shared), 'launch')


def quiet():
    """What is said of mistakes made on purpose is not shown, until loud()."""
    global ERRORS
    ERRORS = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def loud():
    os.dup2(ERRORS, 2)


def f32(x):
    return struct.unpack('f', struct.pack('f', x))[0]


def bits(x):
    return struct.unpack('I', struct.pack('f', x))[0]


def bf16(x):
    u = bits(x)
    return (u + 0x7fff + (u >> 16 & 1)) >> 16 & 0xffff


def from_bf16(h):
    return struct.unpack('f', struct.pack('I', h << 16))[0]


def close(a, b, relative=1e-5, absolute=1e-6):
    assert len(a) == len(b)
    for i, (x, y) in enumerate(zip(a, b)):
        assert abs(x - y) <= relative * abs(y) + absolute, f'{i}: {x} instead of {y}'


def coarse(n, scale=1.0): # equal numbers happen
    return [f32(scale * random.randint(-1000, 1000) / 1000) for _ in range(n)]


# --- The instructions -------------------------------------------------------------------------------------------------
def test_products(m):
    a, b = coarse(256), coarse(128)
    ha, hb = [bf16(x) for x in a], [bf16(x) for x in b]
    fa, fb = [from_bf16(x) for x in ha], [from_bf16(x) for x in hb]
    out = Buffer('f', [0.0] * 128)
    want = [sum(fa[i * 16 + k] * fb[j * 16 + k] for k in range(16)) for i in range(16) for j in range(8)]
    launch(function(m, 'mma_bf16'), 1, 32, [Buffer('H', ha), Buffer('H', hb), out])
    close(out.get(), want)
    want = [sum(fa[i * 16 + k] * fb[k * 8 + j] for k in range(16)) for i in range(16) for j in range(8)]
    launch(function(m, 'mma_bf16_turned'), 1, 32, [Buffer('H', ha), Buffer('H', hb), out], shared=256)
    close(out.get(), want)
    a, b = [x + 2.0 ** -20 for x in coarse(128)], coarse(64)
    tf = lambda x: struct.unpack('f', struct.pack('I', bits(x) + 0x1000 & 0xffffe000))[0]
    want = [sum(tf(a[i * 8 + k]) * tf(b[k * 8 + j]) for k in range(8)) for i in range(16) for j in range(8)]
    launch(function(m, 'mma_tf32'), 1, 32, [Buffer('f', a), Buffer('f', b), out])
    close(out.get(), want)


def test_together(m):
    out = Buffer('I', [0] * 64 * 16)
    launch(function(m, 'together'), 1, 64, [out])
    got = out.get()
    for i in range(64):
        w, l = i // 32 * 32, i % 32
        want = [w + 5, w + (l - 3 if l >= 3 else l), w + (l + 3 if l < 29 else l), w + (l ^ 9), w + l // 8 * 8 + 5,
                w + (l - 3 if l % 8 >= 3 else l), w + (l + 3 if l % 8 < 5 else l), sum(1 << j for j in range(32) if j % 3 == 0),
                int(w == 32), int(w == 0), sum(range(w, w + 32)), (w - 40) & 0xffffffff,
                sum(1 << j for j in range(32) if (w + j) % 5 == i % 5), w + (l ^ 1) if l < 16 else 0xaaaa0000, 4, 1]
        got_i = got[i * 16:i * 16 + 16]
        assert got_i[:14] == want[:14] and got_i[14] == 4 and got_i[15] != 0, f'{i}: {got_i} instead of {want}'


def test_language(m):
    n = 96
    values = [random.randint(-2 ** 31, 2 ** 31 - 1) for _ in range(n)]
    out = Buffer('i', [0] * n)
    launch(function(m, 'language'), 1, n, [Buffer('i', values), out, n], shared=4 * n)
    table, fixed = [1.5, 2.5, -3.5, 4.5], [0] * 64
    for v in values:
        fixed[v & 63] += 1
    signed = lambda x: (x & 0xffffffff) - (1 << 32 if x & 0x80000000 else 0)
    want = []
    for i, v in enumerate(values):
        memory, k = [1, 2, 3, 4], v & 7
        memory[k % 4] += 2 * k
        x = (memory[k % 4] + memory[(i + 1) % 4] + values[n - 1 - i]) & 0xffffffff
        x = [lambda: x + 11, lambda: x ^ 0x5555, lambda: -x, lambda: bin(x).count('1'),
             lambda: 32 - x.bit_length(), lambda: (x & -x).bit_length(),
             lambda: int(f'{x:032b}'[::-1], 2),
             lambda: sum(struct.pack('<II', x, 0x12345678)[s] << 8 * j for j, s in enumerate((6, 2, 4, 0)))][k]()
        want.append(signed(x + int(2 * table[i % 4]) + fixed[i % 64]))
    assert out.get() == want
    one = Buffer('I', [0])
    for expected in (7 + n, 8 + n): # functions of a module share its data
        launch(function(m, 'count'), 1, 1, [one])
        assert one.get() == [expected], one.get()


def test_rounding(m):
    x = [0.5, 1.5, -2.5, 3e9, -3e9, float('nan'), float('inf'), 65519.9, 65520.0,
         1.00390625, 1.01171875, 1e-40, -0.0, 3.14159, 1 / 3, 5.960464e-08, 16777217.0]
    x = [f32(v) for v in x] + coarse(50, 100)
    n = len(x)
    out = Buffer('i', [0] * n * 12)
    launch(function(m, 'rounding'), 1, 128, [Buffer('f', x), out, n])
    got = out.get()
    clamp = lambda v, low, high: 0 if v != v else int(max(low, min(high, v))) if math.isinf(v) else max(low, min(high, int(v)))
    for i, v in enumerate(x):
        o, y = got[i * 12:i * 12 + 12], x[(i + 1) % n]
        finite = math.isfinite(v)
        near, down, up, cut = (round(v), math.floor(v), math.ceil(v), math.trunc(v)) if finite else (v,) * 4
        s = lambda r: clamp(r, -2 ** 31, 2 ** 31 - 1)
        assert o[:4] == [s(near), s(cut), s(down), s(up)], (v, o)
        assert o[4] & 0xffffffff == clamp(near, 0, 2 ** 32 - 1), (v, o)
        assert o[5] == (0x7fff if v != v else bf16(v)), (v, o)
        if finite:
            h = struct.unpack('H', struct.pack('e', v))[0] if abs(v) < 65520 else 0x7c00 | (v < 0) << 15
            assert o[6] == h, (v, o)
            if math.isfinite(y):
                real = lambda bits: struct.unpack('f', struct.pack('i', bits))[0]
                exact = Q(v) + Q(y)
                toward = real(o[8])
                away = math.nextafter(toward, math.copysign(math.inf, exact))
                assert abs(Q(toward)) <= abs(exact) <= abs(Q(away)) + abs(exact) / 2 ** 23, (v, y)
                assert math.isinf(real(o[9])) or Q(real(o[9])) >= Q(v) * Q(y), (v, y)
                assert y == 0 or math.isinf(real(o[11])) or Q(real(o[11])) <= Q(v) / Q(y), (v, y)


def test_compare(m):
    nan = float('nan')
    x = [1.0, 2.0, 2.0, 1.0, nan, 3.0, nan, nan, -1.0, float('inf')]
    out = Buffer('i', [0] * 20)
    launch(function(m, 'compare'), 1, 32, [Buffer('f', x), out, 10])
    for i, v in enumerate(x):
        y = x[(i + 1) % 10]
        said = [v < y, not v < y, v <= y, not v <= y, v > y, not v > y, v == y, v != y, not v >= y, v != v]
        low, high = (v, v) if y != y else (y, y) if v != v else (min(v, y), max(v, y))
        assert out.get()[2 * i] == sum(b << j for j, b in enumerate(said)), (v, y, out.get()[2 * i])
        assert v != v and y != y or out.get()[2 * i + 1] & 0xffffffff == bits(low) ^ bits(high), (v, y)


def test_atomics(m):
    f, d, u, l, b = Buffer('f', [0]), Buffer('d', [0]), Buffer('I', [0, 9999, 0]), Buffer('Q', [0]), Buffer('H', [0, 0])
    launch(function(m, 'atomics'), 40, 256, [f, d, u, l, b])
    n = 40 * 256
    assert f.get() == [n] and d.get() == [n / 2] and u.get()[:2] == [n - 1, 0] and l.get() == [n * (n - 1) // 2]
    assert b.get() == [bf16(256.0), bf16(512.0)], b.get() # where 1 and 2 are lost


# --- What has to be found ----------------------------------------------------------------------------------------------
def crash(name):
    """In a process of its own, because it has to end there."""
    m = module(os.environ['TEST_PTX'])
    x, other = Buffer('f', [0.0] * 100), Buffer('f', [0.0] * 100)
    host = c.create_string_buffer(4096)
    run = {'past the end': ('write_at', 1, 1, [x, 100]), 'one too many': ('write_to', 1, 1, [x, 101]),
           'before the start': ('write_at', 1, 1, [x, ('i', -1)]),
           'host memory': ('write_at', 1, 1, [('Q', c.addressof(host)), 0]), 'null': ('write_at', 1, 1, [None, 0]),
           'reading freed memory': ('read_at', 1, 1, [x, 0, other]), 'misaligned': ('write_twice', 1, 1, [('Q', x.at.value + 4)]),
           'shared memory': ('shared_at', 1, 1, [x, 8]), 'barriers': ('half_a_barrier', 1, 64, [x]), 'vote': ('half_a_vote', 1, 32, [x]),
           'trap': ('trapped', 1, 1, [])}[name]
    if name == 'reading freed memory':
        ok(x.free())
    launch(function(m, run[0]), *run[1:], shared=32)


CRASHES = {'past the end': 'not in an allocation', 'one too many': '(400 from its start)',
           'before the start': 'not in an allocation', 'host memory': 'not in an allocation',
           'null': 'not in an allocation', 'reading freed memory': 'not in an allocation', 'misaligned': 'misaligned',
           'shared memory': 'out of the block\'s shared memory', 'barriers': 'wait for each other forever',
           'vote': 'wait for each other forever',
           'trap': 'trap'}


def test_crashes(ptx):
    for name, text in CRASHES.items():
        run = subprocess.run([sys.executable, __file__, LIBS, '--crash', name], env=os.environ | {'TEST_PTX': ptx},
                             capture_output=True, text=True)
        assert run.returncode == -6 and text in run.stderr and 'fake GPU: kernel ' in run.stderr, f'{name}: {run.returncode} {run.stderr}'
    run = subprocess.run([sys.executable, __file__, LIBS, '--count'], env=os.environ | {'SAESCOPE_FAKE_GPU_COUNT': '0'},
                         capture_output=True, text=True)
    assert run.stdout.strip() == '100', run


def test_limits(m):
    f, x = function(m, 'shared_at'), Buffer('f', [0.0])
    quiet()
    assert try_launch(f, 1, 1025, [x, 0]) == 1 and try_launch(f, 0, 1, [x, 0]) == 1 and try_launch(f, 1, 0, [x, 0]) == 1
    assert try_launch(f, (1, 65536), 1, [x, 0]) == 1 and try_launch(f, (1, 1, 65536), 1, [x, 0]) == 1
    assert try_launch(f, 1, 1, [x, 12288], shared=49153) == 1
    assert cuda.cuFuncSetAttribute(f, 8, 227 * 1024 + 1) == 1
    ok(cuda.cuFuncSetAttribute(f, 8, 100 * 1024))
    assert try_launch(f, 1, 1, [x, 12288], shared=100 * 1024 + 1) == 1
    launch(f, 1, 1, [x, 25599], shared=100 * 1024)
    assert x.get() == [1.0]
    f = c.c_void_p()
    assert cuda.cuModuleGetFunction(c.byref(f), m, b'nothing') == 500
    assert cuda.cuModuleLoadData(c.byref(f), b'this is no PTX\0') == 218
    loud()


def test_memory():
    at, free, total = c.c_uint64(), c.c_uint64(), c.c_uint64()
    ok(cuda.cuMemGetInfo_v2(c.byref(free), c.byref(total)))
    assert cuda.cuMemAlloc_v2(c.byref(at), c.c_size_t(free.value + 1)) == 2 and cuda.cuMemAlloc_v2(c.byref(at), c.c_size_t(0)) == 1
    x = Buffer('f', [1.0] * 10)
    now = c.c_uint64()
    ok(cuda.cuMemGetInfo_v2(c.byref(now), c.byref(total)))
    assert free.value - now.value == 40
    host = c.create_string_buffer(100)
    quiet()
    assert cuda.cuMemcpyDtoH_v2(host, x.at, c.c_size_t(41)) == 1
    assert cuda.cuMemcpyHtoD_v2(c.c_uint64(c.addressof(host)), host, c.c_size_t(4)) == 1
    assert cuda.cuMemsetD8_v2(x.at, 0, c.c_size_t(41)) == 1 and cuda.cuMemsetD8_v2(x.at, 0, c.c_size_t(40)) == 0
    ok(x.free())
    assert x.free() == 1, 'a double free'
    loud()
    ok(cuda.cuMemAlloc_v2(c.byref(at), c.c_size_t(8)))
    ok(cuda.cuMemcpyDtoH_v2(host, at, c.c_size_t(8)))
    assert host.raw[:8] == b'\xff' * 8
    text = c.c_char_p()
    ok(cuda.cuGetErrorString(2, c.byref(text)))
    assert text.value == b'out of memory' and cuda.cuGetErrorName(12345, c.byref(text)) == 1


if __name__ == '__main__':
    if '--count' in OPTIONS:
        print(cuda.cuInit(0))
        sys.exit()
    start()
    if '--crash' in OPTIONS:
        crash(OPTIONS[OPTIONS.index('--crash') + 1])
        sys.exit()
    import test_kernels
    random.seed(1)
    with tempfile.TemporaryDirectory() as folder:
        ptx = compiled(f'{HERE}/test.cu', folder)
        m = module(ptx)
        todo = [(f, m) for f in (test_products, test_together, test_language, test_rounding, test_compare, test_atomics, test_limits)]
        todo += [(test_memory,), (test_crashes, ptx)] + test_kernels.tests(LIBS, OPTIONS, folder)
        for test, *args in todo:
            began = time.time()
            test(*args)
            print(f'{test.__name__}: {time.time() - began:.2f} s', flush=True)
