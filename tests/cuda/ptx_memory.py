# PTX instructions that access memory, branch, or wait for other threads (see ptx_instructions.py).
from ptx_instructions import CACHE, FLOATS, SPACES, TYPES, WIDTH, Bad, instruction, pack, value


def pointer(t, space, address, size):
    """C of a pointer to memory, with its check; parameters and local variables are the translator's own arrays."""
    if space in ('param', 'local'):
        return f'(m8 *)({address})'
    where = {'global': 'global_at', 'const': 'global_at', 'shared': 'shared_at', None: 'generic_at'}[space]
    return f'{where}(t, {t.site(t.text)}, {address}, {size})'


@instruction('ld', 'ldu', 'st')
def load_store(t, m, args, name):
    m.drop(CACHE)
    space, many, ty = m.take(*SPACES), m.take('v2', 'v4', 'v8'), m.type()
    n, w = int(many[1]) if many else 1, int(WIDTH[ty])
    memory, registers = (args[0], args[1]) if name == 'st' else (args[1], args[0])
    registers = [r.strip() for r in registers.strip('{}').split(',')]
    if len(registers) != n:
        raise Bad('operands')
    p = f'm{w} *p = (m{w} *){pointer(t, space, t.address(memory), n * w // 8)}; '
    if name == 'st':
        return p + ' '.join(f'p[{i}] = (u{w})({t.bits(r)});' for i, r in enumerate(registers))
    cast = f'({TYPES[ty]})' if ty[0] == 's' else ''
    if n == 1:
        return p + t.assign(registers[0], f'{cast}p[0]')
    read = ', '.join(f'x{i} = p[{i}]' for i in range(n)) # all before the first register changes: it may be the address
    return f'{p}u{w} {read}; ' + ' '.join(t.assign(r, f'{cast}x{i}') for i, r in enumerate(registers))


@instruction('atom', 'red')
def atom(t, m, args, name):
    m.drop(CACHE)
    space = m.take(*SPACES)
    op = m.take('add', 'min', 'max', 'exch', 'cas', 'and', 'or', 'xor', 'inc', 'dec')
    ty = m.type()
    w = int(WIDTH[ty])
    dest, (address, *operands) = (args[0], args[1:]) if name == 'atom' else (None, args)
    b = [f'(u{w})({t.bits(o)})' for o in operands]
    old = value('old', ty)
    if ty in FLOATS or ty.endswith('x2'):
        def one(x, y, kind):
            v, z = value(x, kind), value(y, kind)
            c = {'add': f'{v} + {z}', 'min': f'min_number({v}, {z})', 'max': f'max_number({v}, {z})'}[op]
            return pack(c, kind)
        if ty.endswith('x2'):
            kind = ty[:-2]
            new = f'(u32)(u16)({one("(u16)old", f"(u16){b[0]}", kind)}) | ' \
                  f'(u32)(u16)({one("(u16)(old >> 16)", f"(u16)({b[0]} >> 16)", kind)}) << 16'
        else:
            new = b[0] if op == 'exch' else one('old', b[0], ty)
    else:
        v = value(b[0], ty)
        new = {'add': f'old + {b[0]}', 'min': f'{old} < {v} ? old : {b[0]}', 'max': f'{old} > {v} ? old : {b[0]}', 'exch': b[0],
               'cas': f'old == {b[0]} ? {b[-1]} : old', 'and': f'old & {b[0]}', 'or': f'old | {b[0]}', 'xor': f'old ^ {b[0]}',
               'inc': f'old >= {b[0]} ? 0 : old + 1', 'dec': f'old == 0 || old > {b[0]} ? {b[0]} : old - 1'}[op]
    c = f'm{w} *p = (m{w} *){pointer(t, space, t.address(address), w // 8)}; m{w} old = __atomic_load_n(p, 5), new; ' \
        f'do new = (u{w})({new}); while (!__atomic_compare_exchange_n(p, &old, new, 0, 5, 5)); '
    return c + (t.assign(dest, 'old') if dest else '')


@instruction('membar', 'fence', 'prefetch', 'prefetchu', 'griddepcontrol')
def nothing(t, m, args, name):
    m.drop(CACHE + ('gl', 'sc', 'global', 'local', 'proxy', 'async', 'launch_dependents', 'wait'))
    return ''


@instruction('cp')
def cp_async(t, m, args, name):
    m.drop(CACHE)
    if not m.take('async'):
        raise Bad('cp')
    if m.take('commit_group', 'wait_group', 'wait_all'):
        return ''
    m.take('shared'), m.take('global')
    size = int(args[2])
    to, site = pointer(t, 'shared', t.address(args[0]), size), t.site(t.text)
    zeros = f'memset(to, 0, {size}); '
    part = f'(u32)({t.bits(args[3])})' if len(args) > 3 else str(size)
    # What is not read need not be there.
    return f'm8 *to = {to}; u32 part = {part}; {zeros}if (part > {size}) t->calls->fail(t, {site}, "more than is copied"); ' \
        f'if (part) {{ m8 *from = (m8 *)({t.address(args[1])}); ' \
        f'if ((u64)from & {size - 1}) t->calls->fail(t, {site}, "misaligned"); ' \
        f'for (u32 i = 0; i < part; i++) to[i] = *global_at(t, {site}, (u64)(from + i), 1); }}'


@instruction('bra')
def bra(t, m, args, name):
    m.take('uni')
    return f'goto L_{args[0].replace("$", "S").replace("%", "R")};'


@instruction('brx')
def brx(t, m, args, name):
    m.take('idx'), m.take('uni')
    labels = [f'case {i}: goto L_{x.replace("$", "S")};' for i, x in enumerate(t.targets_of(args[1]))]
    return f'switch ({t.bits(args[0])}) {{ {" ".join(labels)} }}'


@instruction('ret', 'exit')
def ret(t, m, args, name):
    m.take('uni')
    if name == 'exit' and not t.is_entry:
        raise Bad('exit in a function')
    return 'return;'


@instruction('trap', 'brkpt')
def trap(t, m, args, name):
    return f't->calls->fail(t, {t.site(t.text)}, "trap");'


@instruction('nanosleep')
def nanosleep(t, m, args, name):
    m.type()
    t.fibers = True
    return 't->calls->yield(t);'


@instruction('call')
def call(t, m, args, name):
    m.take('uni')
    out = args.pop(0)[1:-1].split(',') if args[0].startswith('(') else []
    target = args.pop(0)
    passed = [x.strip() for x in out + (args[0][1:-1].split(',') if args else []) if x.strip()]
    arrays = [t.symbol(x)[5:] for x in passed] # without the cast to an address
    if target == '__assertfail':
        what, file, line, function = (f'*(m64 *){arrays[0]}', f'*(m64 *){arrays[1]}', f'*(m32 *){arrays[2]}', f'*(m64 *){arrays[3]}')
        return f'char s[600]; __builtin_snprintf(s, sizeof s, "assertion failed: %s (%s:%u, %s)", (char *){what}, (char *){file}, ' \
            f'{line}, (char *){function}); t->calls->fail(t, {t.site("assert")}, s);'
    if target not in t.module.functions:
        raise Bad(f'call of {target}')
    t.todo.append(target)
    return f'FN_{target.replace("$", "S")}(t{"".join(", " + a for a in arrays)});'


# --- Together with other threads ---
@instruction('bar', 'barrier')
def bar(t, m, args, name):
    m.drop(('cta', 'aligned'))
    t.fibers = True
    if m.take('warp'):
        m.take('sync')
        return meet(t, 'WARP_SYNC', t.bits(args[0]), [])
    what = m.take('sync', 'arrive', 'red')
    site = t.site(t.text)
    if what == 'red':
        op = m.take('popc', 'and', 'or')
        m.type()
        dest, number, *rest = args
        negate = '!' if rest[-1].startswith('!') else ''
        threads = t.bits(rest[0]) if len(rest) > 1 else '0'
        return f't->meet.in[0] = {negate}{t.bits(rest[-1].lstrip("!"))}; ' \
            f't->calls->barrier(t, {site}, BARRIER_{op.upper()}, {t.bits(number)}, {threads}); {t.assign(dest, "t->meet.out[0]")}'
    threads = t.bits(args[1]) if len(args) > 1 else '0'
    return f't->calls->barrier(t, {site}, BARRIER_{what.upper()}, {t.bits(args[0])}, {threads});'


def meet(t, kind, mask, operands):
    t.fibers = True
    given = ''.join(f't->meet.in[{i}] = {o}; ' for i, o in enumerate(operands))
    return f't->meet.kind = {kind}; t->meet.site = {t.site(t.text)}; t->meet.mask = (u32)({mask}); {given}t->calls->meet(t); '


@instruction('shfl')
def shfl(t, m, args, name):
    if not m.take('sync'):
        raise Bad('shfl without .sync')
    mode = m.take('idx', 'up', 'down', 'bfly')
    m.type()
    dest, *flag = args[0].split('|')
    c = meet(t, f'SHUFFLE_{mode.upper()}', t.bits(args[4]), [f'(u32)({t.bits(a)})' for a in args[1:4]])
    return c + t.assign(dest, 't->meet.out[0]') + (t.assign(flag[0], 't->meet.flag') if flag else '')


@instruction('vote', 'match', 'redux')
def vote(t, m, args, name):
    if not m.take('sync'):
        raise Bad('without .sync')
    op = m.take('ballot', 'any', 'all', 'uni', 'add', 'min', 'max', 'and', 'or', 'xor')
    ty = m.type()
    dest, *flag = args[0].split('|')
    negate = '!' if args[1].startswith('!') else ''
    a = f'{negate}{t.bits(args[1].lstrip("!"))}'
    signed = '_SIGNED' if ty == 's32' and op in ('min', 'max') else ''
    if name != 'vote':
        a = f'(u{WIDTH[ty]})({a})'
    c = meet(t, f'{name.upper()}_{op.upper()}{signed}', t.bits(args[2]), [a])
    return c + t.assign(dest, 't->meet.out[0]') + (t.assign(flag[0], 't->meet.flag') if flag else '')


@instruction('activemask')
def activemask(t, m, args, name): # a thread alone is always right
    m.type()
    return t.assign(args[0], '1u << t->lane')


@instruction('elect')
def elect(t, m, args, name):
    raise Bad('elect')


@instruction('ldmatrix')
def ldmatrix(t, m, args, name):
    m.take('sync'), m.take('aligned'), m.take('m8n8'), m.take('shared')
    n, transposed = int(m.take('x1', 'x2', 'x4')[1]), m.take('trans')
    if m.type() != 'b16':
        raise Bad('type')
    c = meet(t, 'LOAD_MATRIX_TRANSPOSED' if transposed else 'LOAD_MATRIX', '~0u', [t.address(args[1]), str(n)])
    return c + ' '.join(t.assign(r, f't->meet.out[{i}]') for i, r in enumerate(args[0].strip('{}').split(',')))


@instruction('mma')
def mma(t, m, args, name):
    m.take('sync'), m.take('aligned')
    shape = m.take('m16n8k16', 'm16n8k8', 'm16n8k4')
    types = (m.take('row'), m.take('col'))
    c_type, b_type, a_type, d_type = (m.type() for _ in range(4))
    if types != ('row', 'col') or a_type != b_type or (c_type, d_type) != ('f32', 'f32') or a_type not in ('bf16', 'f16', 'tf32'):
        raise Bad('shape or types')
    parts = [[x.strip() for x in a.strip('{}').split(',')] for a in args]
    k = shape.split('k')[1]
    kind = f'MMA_{a_type.upper()}_{k}'
    sizes = {'MMA_BF16_16': (4, 2), 'MMA_F16_16': (4, 2), 'MMA_BF16_8': (2, 1), 'MMA_F16_8': (2, 1), 'MMA_TF32_8': (4, 2),
             'MMA_TF32_4': (2, 1)}
    if sizes.get(kind) != (len(parts[1]), len(parts[2])) or len(parts[3]) != 4:
        raise Bad('operands')
    given = {i: x for at, part in ((0, parts[1]), (4, parts[2]), (6, parts[3])) for i, x in enumerate(part, at)}
    c = meet(t, kind, '~0u', [f'(u32)({t.bits(given[i])})' if i in given else '0' for i in range(10)])
    return c + ' '.join(t.assign(r, f't->meet.out[{i}]') for i, r in enumerate(parts[0]))
