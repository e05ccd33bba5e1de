# The rest of test.py: cuBLAS, cuRAND and candle's kernels against plain loops, and a sweep over all of candle's.
import ctypes as c, glob, math, os, random, struct, subprocess, time
import ptx_to_c
import __main__ as t
from __main__ import Buffer, bf16, close, coarse, f32, from_bf16, function, launch, module, ok

F32, F16, BF16 = 0, 2, 14


# --- cuBLAS and cuRAND ---------------------------------------------------------------------------------------------------
def test_blas(libs):
    blas = c.CDLL(f'{libs}/libcublas.so.13')
    handle = c.c_void_p()
    ok(blas.cublasCreate_v2(c.byref(handle)))
    store = {F32: ('f', lambda x: x, lambda x: x), BF16: ('H', bf16, from_bf16),
             F16: ('H', lambda x: struct.unpack('H', struct.pack('e', x))[0], lambda h: struct.unpack('e', struct.pack('H', h))[0])}
    tf32 = lambda x: struct.unpack('f', struct.pack('I', t.bits(x) + 0xfff + (t.bits(x) >> 13 & 1) & 0xffffe000))[0]
    def run(ta, tb, m, n, k, at, ct, compute, batch=1, alpha=1.0, beta=0.0, less=0):
        lda, ldb, ldc = (k if ta else m) + 3 - less, (n if tb else k) + 2, m + 1
        sa, sb, sc = lda * (m if ta else k) + 5, ldb * (k if tb else n), ldc * n
        kind, to, back = store[at]
        a, b = [to(x) for x in coarse(sa * batch)], [to(x) for x in coarse(sb * batch)]
        c0 = [store[ct][1](x) for x in coarse(sc * batch)] if beta else [0x7fc0 if ct != F32 else math.nan] * (sc * batch)
        da, db, dc = Buffer(kind, a), Buffer(kind, b), Buffer(store[ct][0], c0)
        x, y = c.c_float(alpha), c.c_float(beta)
        status = blas.cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, c.byref(x), da.at, at, lda, c.c_longlong(sa), db.at, at, ldb,
            c.c_longlong(sb), c.byref(y), dc.at, ct, ldc, c.c_longlong(sc), batch, compute, 99)
        if status:
            return status
        got, value = dc.get(), (lambda v: tf32(back(v))) if compute == 77 else back
        for z in range(batch):
            for j in range(n):
                for i in range(m):
                    s = sum(value(a[z * sa + (i * lda + l if ta else l * lda + i)])
                            * value(b[z * sb + (l * ldb + j if tb else j * ldb + l)]) for l in range(k))
                    place, number = z * sc + j * ldc + i, store[ct][2]
                    want, have = alpha * s + (beta * number(c0[place]) if beta else 0), number(got[place])
                    off = {F32: 1e-5, BF16: 0.005, F16: 0.0006}[ct] * (abs(want) + 1)
                    assert abs(have - want) <= off, (ta, tb, m, n, k, at, ct, i, j, have, want)
        for x in (da, db, dc):
            x.free()
        return 0
    for ta in (0, 1):
        for tb in (0, 1):
            for m, n, k in ((1, 1, 1), (17, 7, 5), (33, 20, 300), (3, 1, 64)):
                ok(run(ta, tb, m, n, k, F32, F32, 68))
                ok(run(ta, tb, m, n, k, BF16, BF16, 68, batch=3, alpha=0.5, beta=2.0))
    ok(run(0, 1, 20, 20, 20, BF16, F32, 68)), ok(run(1, 0, 20, 20, 20, F16, F16, 68))
    ok(run(0, 0, 20, 20, 20, F32, F32, 77)), ok(run(0, 0, 4, 4, 0, F32, F32, 69))
    ok(run(0, 0, 130, 120, 130, F32, F32, 68)) # on two threads
    t.quiet()
    assert run(0, 0, 8, 8, 8, F32, F32, 68, less=4) == 7 and run(0, 0, 8, 8, 8, BF16, F16, 68) == 15
    small = Buffer('f', [0.0] * 15)
    one = c.c_float(1)
    assert blas.cublasSgemm_v2(handle, 0, 0, 4, 4, 4, c.byref(one), small.at, 4, small.at, 4, c.byref(one), small.at, 4) == 7
    t.loud()
    n = 1536
    a, b, d = (Buffer('f', [0.5] * n * n) for _ in range(3))
    began, zero = time.time(), c.c_float(0)
    ok(blas.cublasSgemm_v2(handle, 1, 0, n, n, n, c.byref(one), a.at, n, b.at, n, c.byref(zero), d.at, n))
    print(f'    cuBLAS, f32, {n}³: {2 * n ** 3 / (time.time() - began) / 1e9:.0f} GFLOP/s')
    assert d.get()[n * n // 2] == n / 4
    ok(blas.cublasDestroy_v2(handle))


def test_rand(libs):
    rand = c.CDLL(f'{libs}/libcurand.so.10')
    g, n = c.c_void_p(), 20000
    ok(rand.curandCreateGenerator(c.byref(g), 100)), ok(rand.curandSetPseudoRandomGeneratorSeed(g, c.c_ulonglong(299792458)))
    x = Buffer('f', [0.0] * n)
    ok(rand.curandGenerateNormal(g, x.at, c.c_size_t(n), c.c_float(1), c.c_float(2)))
    got = x.get()
    mean = sum(got) / n
    assert abs(mean - 1) < 0.06 and abs(sum((v - mean) ** 2 for v in got) / n - 4) < 0.2
    ok(rand.curandGenerateUniform(g, x.at, c.c_size_t(n)))
    assert 0 < min(x.get()) and max(x.get()) <= 1 and abs(sum(x.get()) / n - 0.5) < 0.01
    assert rand.curandGenerateNormal(g, x.at, c.c_size_t(n - 1), c.c_float(0), c.c_float(1)) == 105


# --- candle's ------------------------------------------------------------------------------------------------------------
def info(dims, strides=None):
    if strides is None:
        strides = [math.prod(dims[i + 1:]) for i in range(len(dims))]
    return Buffer('Q', list(dims) + list(strides))


def test_candle(ptx):
    modules = {}
    def get(m, name):
        if m not in modules:
            modules[m] = module(ptx[m])
        return function(modules[m], name)
    Q = lambda n: ('Q', n)
    n = 3000
    x = coarse(n, 3)
    out, dx = Buffer('f', [0.0] * n), Buffer('f', x)
    for name, f in (('uexp', math.exp), ('usilu', lambda v: v / (1 + math.exp(-v))), ('utanh', math.tanh), ('urelu', lambda v: max(v, 0)),
                    ('usqr', lambda v: v * v), ('usin', math.sin), ('ugelu_erf', lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2)))),
                    ('uneg', lambda v: -v), ('uabs', abs)):
        launch(get('unary', name + '_f32'), 3, 1024, [Q(n), Q(1), None, dx, out])
        close(out.get(), [f(v) for v in x], 1e-5, 1e-6)
    big = [1e5 * v for v in x] # where sin needs its slow way, with memory of its own
    launch(get('unary', 'usin_f32'), 3, 1024, [Q(n), Q(1), None, Buffer('f', big), out])
    close(out.get(), [math.sin(f32(v)) for v in big], 1e-5, 1e-5)
    launch(get('unary', 'ucopy_f32'), 3, 1024, [Q(n), Q(2), info([50, 60], [1, 50]), dx, out]) # of a transposed one
    assert out.get() == [x[i % 60 * 50 + i // 60] for i in range(n)]
    y = coarse(n)
    dy = Buffer('f', y)
    for name, f in (('badd', lambda a, b: f32(a + b)), ('bmul', lambda a, b: f32(a * b)), ('bmaximum', max),
                    ('bsub', lambda a, b: f32(a - b))):
        launch(get('binary', name + '_f32'), 3, 1024, [Q(n), Q(1), None, dx, dy, out])
        assert out.get() == [f(a, b) for a, b in zip(x, y)], name
    launch(get('affine', 'affine_f32'), 3, 1024, [Q(n), Q(1), None, dx, out, ('f', 2.0), ('f', -1.0)])
    close(out.get(), [2 * v - 1 for v in x])
    # Casts: ties go to even.
    ties = [1.00390625, 1.01171875, -1.00390625, 1e38, 1e-40, 0.1] * 10
    half, back = Buffer('H', [0] * 60), Buffer('f', [0.0] * 60)
    launch(get('cast', 'cast_f32_bf16'), 1, 1024, [Q(60), Q(1), None, Buffer('f', [f32(v) for v in ties]), half])
    assert half.get() == [bf16(v) for v in ties] and half.get()[:3] == [0x3f80, 0x3f82, 0xbf80]
    launch(get('cast', 'cast_bf16_f32'), 1, 1024, [Q(60), Q(1), None, half, back])
    assert back.get() == [from_bf16(bf16(v)) for v in ties]
    whole = Buffer('q', [0] * n)
    launch(get('cast', 'cast_f32_i64'), 3, 1024, [Q(n), Q(1), None, dx, whole])
    assert whole.get() == [int(v) for v in x]
    # Sums of rows and columns, softmax, the first of the largest.
    sums = Buffer('f', [0.0] * 60)
    launch(get('reduce', 'fast_sum_f32'), 60, 64, [Q(n), Q(50), Q(2), info([60, 50]), dx, sums])
    close(sums.get(), [math.fsum(x[r * 50:r * 50 + 50]) for r in range(60)], 1e-5, 1e-5)
    launch(get('reduce', 'fast_sum_f32'), 50, 64, [Q(n), Q(60), Q(2), info([50, 60], [1, 50]), dx, Buffer('f', [0.0] * 50)])
    largest = Buffer('I', [0] * 60)
    launch(get('reduce', 'fast_argmax_f32'), 60, 64, [Q(n), Q(50), Q(2), info([60, 50]), dx, largest])
    assert [x[r * 50 + i] for r, i in enumerate(largest.get())] == [max(x[r * 50:r * 50 + 50]) for r in range(60)]
    launch(get('reduce', 'softmax_f32'), 60, (1, 32), [dx, out, 50])
    want = []
    for r in range(60):
        e = [math.exp(v) for v in x[r * 50:r * 50 + 50]]
        want += [v / sum(e) for v in e]
    close(out.get(), want)
    launch(get('reduce', 'rmsnorm_f32'), 60, 32, [dx, out, Buffer('f', [2.0] * 50), 50, 32, ('f', 1e-5)])
    close(out.get(), [2 * v / math.sqrt(sum(w * w for w in x[i // 50 * 50:i // 50 * 50 + 50]) / 50 + 1e-5) for i, v in enumerate(x)])
    ids = [random.randrange(60) for _ in range(7)]
    rows = Buffer('f', [0.0] * 350)
    launch(get('indexing', 'is_u32_f32'), 1, 1024, [Q(350), Q(1), info([7]), Buffer('I', ids), dx, rows, Q(1), Q(60), Q(7), Q(50)])
    assert rows.get() == [x[i * 50 + j] for i in ids for j in range(50)]
    added = Buffer('f', x)
    launch(get('indexing', 'ia_u32_f32'), 1, 1024, [Buffer('I', ids), Q(7), rows, added, Q(1), Q(7), Q(60), Q(50)])
    close(added.get(), [v * (1 + ids.count(i // 50)) for i, v in enumerate(x)])
    where = [random.randrange(2) for _ in range(n)]
    launch(get('ternary', 'where_u8_f32'), 3, 1024, [Q(n), Q(1), Buffer('Q', [n, 1, 1, 1]), Buffer('B', where), dx, dy, out])
    assert out.get() == [a if w else b for w, a, b in zip(where, x, y)]
    order = Buffer('I', [0] * 64)
    launch(get('sort', 'asort_asc_f32'), 1, 64, [dx, order, 50, 64], shared=64 * 4)
    got = order.get()[:50]
    assert [x[i] for i in got] == sorted(x[:50])
    # The same in bf16: what is computed in f32 and rounded once.
    h, hy, hout = [bf16(v) for v in x], [bf16(v) for v in y], Buffer('H', [0] * n)
    g, gy, dh, dhy = [from_bf16(v) for v in h], [from_bf16(v) for v in hy], Buffer('H', h), Buffer('H', hy)
    launch(get('unary', 'usilu_bf16'), 3, 1024, [Q(n), Q(1), None, dh, hout])
    close([from_bf16(v) for v in hout.get()], [v / (1 + math.exp(-v)) for v in g], 0.02, 1e-3)
    for name, f in (('badd', lambda a, b: a + b), ('bmul', lambda a, b: a * b), ('bmaximum', max)):
        launch(get('binary', name + '_bf16'), 3, 1024, [Q(n), Q(1), None, dh, dhy, hout])
        assert [v & 0x7fff and v for v in hout.get()] == [v & 0x7fff and v for v in (bf16(f(a, b)) for a, b in zip(g, gy))], name
    sums = Buffer('H', [0] * 60)
    launch(get('reduce', 'fast_sum_bf16'), 60, 64, [Q(n), Q(50), Q(2), info([60, 50]), dh, sums])
    close([from_bf16(v) for v in sums.get()], [math.fsum(g[r * 50:r * 50 + 50]) for r in range(60)], 0.004, 1e-3)
    e = [struct.unpack('H', struct.pack('e', v))[0] for v in x]
    de, he = Buffer('H', e), [struct.unpack('e', struct.pack('H', v))[0] for v in e]
    launch(get('binary', 'badd_f16'), 3, 1024, [Q(n), Q(1), None, de, de, hout])
    assert hout.get() == [struct.unpack('H', struct.pack('e', 2 * v))[0] for v in he]
    million = Buffer('f', [0.5] * (1 << 20))
    for name in ('uexp_f32', 'usqr_f32'):
        f, began = get('unary', name), time.time()
        launch(f, 1024, 1024, [Q(1 << 20), Q(1), None, million, million])
        print(f'    {name} of a million: {1000 * (time.time() - began):.0f} ms')
    f, began = get('reduce', 'fast_sum_f32'), time.time()
    launch(f, 1024, 1024, [Q(1 << 20), Q(1024), Q(2), info([1024, 1024]), million, Buffer('f', [0.0] * 1024)])
    print(f'    fast_sum_f32 of a million: {1000 * (time.time() - began):.0f} ms')


def test_sweep(ptx, out):
    began, files, total = time.time(), [], 0
    for name, path in ptx.items():
        m = ptx_to_c.Module(open(path).read())
        for entry in [n for n, f in m.functions.items() if f[0] == 'entry']:
            code, total = ptx_to_c.Translator(m, entry).c(), total + 1
            if total % 3 == 0:
                files.append(f'{out}/{name}.{entry}.c')
                open(files[-1], 'w').write(code)
    print(f'    {total} entries of candle translated in {time.time() - began:.1f} s')
    began = time.time()
    compile_one = lambda f: subprocess.run(ptx_to_c.COMPILE + ['-Wl,--no-undefined', '-o', f + '.so', f, '-lm'], capture_output=True, text=True)
    with t.ThreadPoolExecutor(os.cpu_count()) as pool:
        for run in pool.map(compile_one, files):
            assert run.returncode == 0, run.stderr
    print(f'    {len(files)} compiled in {time.time() - began:.1f} s')


def tests(libs, options, out):
    todo = [(test_blas, libs), (test_rand, libs)]
    if '--ptx' in options:
        folder = options[options.index('--ptx') + 1]
        ptx = {m: f'{folder}/{m}.ptx' for m in t.MODULES}
        return todo + [(test_candle, ptx)] + ([(test_sweep, ptx, out)] if '--sweep' in options else [])
    home = os.environ.get('CARGO_HOME', os.path.expanduser('~/.cargo'))
    sources = sorted(glob.glob(f'{home}/registry/src/*/candle-kernels-0.*/src'))
    if not sources:
        print("candle's kernels: not found, left out")
        return todo
    began = time.time()
    with t.ThreadPoolExecutor(os.cpu_count()) as pool:
        paths = pool.map(lambda m: t.compiled(f'{sources[-1]}/{m}.cu', out, '-I', sources[-1]), t.MODULES)
    ptx = dict(zip(t.MODULES, paths))
    print(f"candle's kernels: compiled to PTX in {time.time() - began:.1f} s")
    return todo + [(test_candle, ptx)] + ([(test_sweep, ptx, out)] if '--sweep' in options else [])
