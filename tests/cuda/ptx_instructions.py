# What each PTX instruction is in C: a function per instruction takes the translator, what follows the name, and operands.
TYPES = {f'{k}{n}': f'{k}{n}' for k in 'us' for n in (8, 16, 32, 64)} | {'upred': 'u8'}
TYPES |= {f'b{n}': f'u{n}' for n in (8, 16, 32, 64)}
WIDTH = {f'{k}{n}': str(n) for k in 'usb' for n in (8, 16, 32, 64)}
WIDTH |= {'f16': '16', 'bf16': '16', 'f16x2': '32', 'bf16x2': '32', 'f32': '32', 'f64': '64', 'tf32': '32', 'pred': 'pred'}
FLOATS = ('f16', 'bf16', 'f32', 'f64')
ROUND = {'rn': 'n', 'rz': 'z', 'rm': 'm', 'rp': 'p', 'rni': 'n', 'rzi': 'z', 'rmi': 'm', 'rpi': 'p'}
# Say how memory is ordered or cached; everything here happens at once.
CACHE = ('weak', 'volatile', 'relaxed', 'acquire', 'release', 'acq_rel', 'cta', 'gpu', 'sys', 'cluster', 'ca', 'cg', 'cs', 'lu',
         'cv', 'wb', 'wt', 'nc', 'L1', 'L2', 'noftz')
SPACES = ('global', 'shared', 'local', 'param', 'const')
INSTRUCTIONS = {}


class Bad(Exception):
    pass


class Mods:
    """What follows an instruction's name: what nobody took is an error."""
    def __init__(self, mods):
        self.left = []
        for m in mods: # shared::cta, L1::no_allocate, L2::128B
            self.left.append(m.split('::')[0])

    def take(self, *names):
        for m in self.left:
            if m in names:
                self.left.remove(m)
                return m
        return None

    def drop(self, names):
        self.left = [m for m in self.left if m not in names]

    def type(self):
        for m in reversed(self.left):
            if m in WIDTH:
                for i in range(len(self.left) - 1, -1, -1):
                    if self.left[i] == m:
                        del self.left[i]
                        return m
        raise Bad('no type')

    def end(self):
        if self.left:
            raise Bad('.' + '.'.join(self.left))


def instruction(*names):
    def add(f):
        def run(t, mods, args, name):
            m = Mods(mods)
            c = f(t, m, args, name)
            m.end()
            return c
        for n in names:
            INSTRUCTIONS[n] = lambda t, mods, args, n=n: run(t, mods, args, n)
        return f
    return add


def value(bits, ty):
    """Bits as a C value of a type."""
    if ty in FLOATS:
        return {'f16': 'H((u16)(%s))', 'bf16': 'B((u16)(%s))', 'f32': 'F((u32)(%s))', 'f64': 'D(%s)'}[ty] % bits
    return f'({TYPES[ty]})({bits})'


def pack(c, ty):
    """A C value as bits; a half's comes as a float or, if it has to be rounded once, as a double."""
    return {'f16': 'hu_d(%s)', 'bf16': 'bu_d(%s)', 'f32': 'fu((float)(%s))', 'f64': 'du(%s)'}[ty] % c if ty in FLOATS else c


def halves(ty):
    return ty[:-2] if ty.endswith('x2') else None


def each_half(f, *bits):
    lo, hi = (f(*[half % b for b in bits]) for half in ('(u16)(%s)', '(u16)((u32)(%s) >> 16)'))
    return f'(u32)(u16)({lo}) | (u32)(u16)({hi}) << 16'


def floating(name, m, ty):
    """A function of operands' bits that gives the result's."""
    way, flush, sat, relu = ROUND[m.take('rn', 'rz', 'rm', 'rp') or 'rn'], m.take('ftz'), m.take('sat'), m.take('relu')
    approx, full, nan = m.take('approx'), m.take('full'), m.take('NaN')
    xorsign = m.take('xorsign')
    if xorsign:
        raise Bad('.xorsign')
    single, math = ty == 'f32', 'f' if ty == 'f32' else ''
    approx = approx or full
    exact = {'add': 'add_odd(%s, %s)', 'sub': 'add_odd(%s, -%s)', 'mul': 'mul_odd(%s, %s)', 'div': 'div_odd(%s, %s)',
             'fma': 'add_odd((double)%s * %s, %s)', 'rcp': 'div_odd(1, %s)', 'sqrt': 'sqrt_odd(%s)'}
    simple = {'add': '(%s + %s)', 'sub': '(%s - %s)', 'mul': '(%s * %s)', 'div': '(%s / %s)', 'fma': f'fma{math}(%s, %s, %s)',
              'rcp': '(1 / %s)', 'sqrt': f'sqrt{math}(%s)', 'rsqrt': '(1 / sqrt((double)%s))', 'ex2': f'exp2{math}(%s)',
              'lg2': f'log2{math}(%s)', 'sin': f'sin{math}(%s)', 'cos': f'cos{math}(%s)', 'tanh': f'tanh{math}(%s)',
              'min': 'min_nan(%s, %s)' if nan else 'min_number(%s, %s)', 'max': 'max_nan(%s, %s)' if nan else 'max_number(%s, %s)'}

    def result(*bits):
        v = [value(b, ty) for b in bits]
        if flush and ty != 'f64':
            v = [f'ftz({x})' for x in v]
        if way != 'n':
            if approx or ty not in ('f32', 'f64') or name not in exact:
                raise Bad(f'.r{way}')
            if ty == 'f32':
                c = f"f_dir({exact[name] % tuple(v)}, '{way}')"
            elif name in ('add', 'sub'):
                c = f"add_dir({v[0]}, {'-' if name == 'sub' else ''}{v[1]}, '{way}')"
            elif name == 'mul':
                c = f"mul_dir({v[0]}, {v[1]}, '{way}')"
            else:
                raise Bad(f'.r{way} of .f64')
        elif ty in ('f16', 'bf16') and name in exact:
            c = exact[name] % tuple(v)
        else:
            c = simple[name] % tuple(v)
        if single and (flush or sat):
            c = f'(float)({c})'
        if flush and ty != 'f64':
            c = f'ftz({c})'
        if sat:
            c = f'satd({c})'
        if relu:
            c = f'relu({c})'
        return pack(c, ty)
    return result


def float_op(t, m, args, name, count):
    ty = m.type()
    half = halves(ty)
    f = floating(name, m, half or ty)
    bits = [t.bits(a) for a in args[1:1 + count]]
    return t.assign(args[0], each_half(f, *bits) if half else f(*bits))


def is_float(m):
    return any(x in FLOATS or x in ('f16x2', 'bf16x2') for x in m.left)


@instruction('add', 'sub', 'addc', 'subc')
def add(t, m, args, name):
    if is_float(m):
        return float_op(t, m, args, name, 2)
    carry, sat, ty = m.take('cc'), m.take('sat'), m.type()
    a, b, w = t.bits(args[1]), t.bits(args[2]), WIDTH[ty]
    if sat:
        if ty != 's32':
            raise Bad('.sat')
        s = f'(s64)(s32){a} {"+" if name == "add" else "-"} (s64)(s32){b}'
        return f's64 x = {s}; {t.assign(args[0], "x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : x")}'
    plus = '+' if name[:3] == 'add' else '-'
    c = f'(u{w})({a}) {plus} (u{w})({b})' + (f' {plus} carry' if name.endswith('c') else '')
    if not carry:
        return t.assign(args[0], c)
    wide = c.replace(f'(u{w})', f'(u128)(u{w})')
    return f'u128 x = {wide}; carry = (u64)(x >> {w}) & 1; {t.assign(args[0], f"(u{w})x")}'


def product(a, b, ty, part):
    w = int(WIDTH[ty])
    signed = ty[0] == 's'
    big = {16: 's32' if signed else 'u32', 32: 's64' if signed else 'u64', 64: 's128' if signed else 'u128'}[w]
    c = f'({big}){value(a, ty)} * ({big}){value(b, ty)}'
    return f'(({c}) >> {w})' if part == 'hi' else f'({c})' if part == 'wide' else f'(u{w})((u{max(w, 32)})(u{w})({a}) * (u{w})({b}))'


@instruction('mul', 'mad', 'madc', 'mul24', 'mad24')
def mul(t, m, args, name):
    if is_float(m):
        return float_op(t, m, args, 'fma' if name == 'mad' else name, 3 if name == 'mad' else 2)
    if name.endswith('24'):
        raise Bad(name)
    part, carry, ty = m.take('lo', 'hi', 'wide') or 'lo', m.take('cc'), m.type()
    c = product(t.bits(args[1]), t.bits(args[2]), ty, part)
    if name == 'mul':
        return t.assign(args[0], c)
    w = int(WIDTH[ty]) * (2 if part == 'wide' else 1)
    rest = ' + (u128)carry' if name == 'madc' else ''
    set_carry = f'carry = (u64)(x >> {w}) & 1; ' if carry else ''
    return f'u128 x = (u128)(u{w})({c}) + (u{w})({t.bits(args[3])}){rest}; {set_carry}{t.assign(args[0], f"(u{w})x")}'


@instruction('div', 'rem')
def div(t, m, args, name):
    if is_float(m):
        return float_op(t, m, args, name, 2)
    ty = m.type()
    return t.assign(args[0], f'{name}_{ty}({value(t.bits(args[1]), ty)}, {value(t.bits(args[2]), ty)})')


@instruction('fma')
def fma(t, m, args, name):
    return float_op(t, m, args, name, 3)


@instruction('rcp', 'sqrt', 'rsqrt', 'ex2', 'lg2', 'sin', 'cos', 'tanh')
def unary_float(t, m, args, name):
    return float_op(t, m, args, name, 1)


@instruction('min', 'max')
def min_max(t, m, args, name):
    if is_float(m):
        return float_op(t, m, args, name, 2)
    relu, ty = m.take('relu'), m.type()
    if relu or ty in ('u16x2', 's16x2'):
        raise Bad('packed or relu')
    a, b = value(t.bits(args[1]), ty), value(t.bits(args[2]), ty)
    return t.assign(args[0], f'{a} {"<" if name == "min" else ">"} {b} ? {a} : {b}')


@instruction('neg', 'abs')
def neg_abs(t, m, args, name):
    flush, ty = m.take('ftz'), m.type()
    a = t.bits(args[1])
    if ty[0] in 'us':
        v = value(a, ty)
        return t.assign(args[0], f'0 - (u{WIDTH[ty]})({a})' if name == 'neg' else f'{v} < 0 ? 0 - (u64){v} : {v}')
    sign = {'16': '0x8000u', '32': '0x80000000u', '64': '(1ull << 63)'}[WIDTH[ty]] if not halves(ty) else '0x80008000u'
    if flush and ty == 'f32':
        a = f'fu(ftz(F((u32)({a}))))'
    return t.assign(args[0], f'({a}) ^ {sign}' if name == 'neg' else f'({a}) & ~{sign}')


@instruction('and', 'or', 'xor', 'not', 'cnot', 'shl', 'shr')
def logic(t, m, args, name):
    ty = m.type()
    a = t.bits(args[1])
    b = t.bits(args[2]) if len(args) > 2 else ''
    if name in ('and', 'or', 'xor'):
        return t.assign(args[0], f'({a}) {dict(zip(("and", "or", "xor"), "&|^"))[name]} ({b})')
    if name == 'not':
        return t.assign(args[0], f'!({a})' if ty == 'pred' else f'~({a})')
    if name == 'cnot':
        return t.assign(args[0], f'(u{WIDTH[ty]})({a}) == 0')
    w, v = WIDTH[ty], value(a, ty)
    if name == 'shl':
        return t.assign(args[0], f'(u32)({b}) >= {w} ? 0 : (u64)({a}) << (u32)({b})')
    if ty[0] == 's':
        return t.assign(args[0], f'{v} >> ((u32)({b}) >= {w} ? {w} - 1 : (u32)({b}))')
    return t.assign(args[0], f'(u32)({b}) >= {w} ? 0 : {v} >> (u32)({b})')


@instruction('popc', 'clz', 'brev', 'bfind', 'bfe', 'bfi', 'lop3', 'prmt', 'shf', 'sad', 'copysign', 'testp')
def bit_fields(t, m, args, name):
    mode, shift, both = m.take('l', 'r'), m.take('wrap', 'clamp'), m.take('shiftamt')
    test = m.take('finite', 'infinite', 'number', 'notanumber', 'normal', 'subnormal') if name == 'testp' else None
    ty = m.type()
    b, w = [t.bits(a) for a in args[1:]], WIDTH[ty]
    if name == 'shf':
        n = f'((u32)({b[2]}) & 31)' if shift == 'wrap' else f'((u32)({b[2]}) < 32 ? (u32)({b[2]}) : 32)'
        x = f'((u64)(u32)({b[1]}) << 32 | (u32)({b[0]}))'
        return t.assign(args[0], f'({x} << {n}) >> 32' if mode == 'l' else f'{x} >> {n}')
    if name == 'testp':
        v = value(b[0], ty)
        c = {'finite': f'isfinite({v})', 'infinite': f'isinf({v})', 'number': f'!isnan({v})', 'notanumber': f'isnan({v})',
             'normal': f'isnormal({v})', 'subnormal': f'fpclassify({v}) == FP_SUBNORMAL'}[test]
        return t.assign(args[0], c)
    if name == 'copysign': # d = the second's size with the first's sign
        s = '0x80000000u' if w == '32' else '(1ull << 63)'
        return t.assign(args[0], f'(({b[0]}) & {s}) | (({b[1]}) & ~{s})')
    if name == 'bfind' and ty[0] == 's':
        v = value(b[0], ty)
        b[0] = f'({v} < 0 ? ~{v} : {v})'
    x = [f'(u{w})({v})' for v in b]
    c = {'popc': lambda: f'__builtin_popcountll({x[0]})', 'clz': lambda: f'{x[0]} ? __builtin_clzll({x[0]}) - (64 - {w}) : {w}',
         'brev': lambda: f'reverse_bits({x[0]}, {w})',
         'bfind': lambda: f'{w} - 1 - bfind_bit({x[0]})' if both else f'bfind_bit({x[0]})',
         'bfe': lambda: f'bfe_{"signed" if ty[0] == "s" else "bits"}({x[0]}, {b[1]}, {b[2]}, {w})',
         'bfi': lambda: f'bfi_bits({x[0]}, {x[1]}, {b[2]}, {b[3]}, {w})',
         'lop3': lambda: f'lop3_bits({x[0]}, {x[1]}, {x[2]}, {b[3]})', 'prmt': lambda: f'prmt_bytes({", ".join(x)})',
         'sad': lambda: f'({value(b[0], ty)} < {value(b[1], ty)} ? {x[1]} - {x[0]} : {x[0]} - {x[1]}) + {x[2]}'}
    return t.assign(args[0], c[name]())


def comparison(m, a, b, ty, how):
    v, w = value(a, ty), value(b, ty)
    if m.take('ftz') and ty == 'f32':
        v, w = f'ftz({v})', f'ftz({w})'
    signs = {'eq': '==', 'ne': '!=', 'lt': '<', 'le': '<=', 'gt': '>', 'ge': '>=', 'lo': '<', 'ls': '<=', 'hi': '>', 'hs': '>='}
    if ty not in FLOATS:
        return f'{v} {signs[how]} {w}'
    none = f'({v} != {v} || {w} != {w})'
    if how == 'num':
        return f'!{none}'
    if how == 'nan':
        return none
    if how.endswith('u') and how[:-1] in signs:
        return f'({none} || {v} {signs[how[:-1]]} {w})'
    return f'(!{none} && {v} != {w})' if how == 'ne' else f'({v} {signs[how]} {w})'


COMPARE = ('eq', 'ne', 'lt', 'le', 'gt', 'ge', 'lo', 'ls', 'hi', 'hs', 'equ', 'neu', 'ltu', 'leu', 'gtu', 'geu', 'num', 'nan')


def with_bool(t, c, how, args):
    if not how:
        return c
    p = t.bits(args[3])
    return {'and': f'(({c}) && {p})', 'or': f'(({c}) || {p})', 'xor': f'(!!({c}) ^ !!{p})'}[how]


@instruction('setp')
def setp(t, m, args, name):
    how, join, ty = m.take(*COMPARE), m.take('and', 'or', 'xor'), m.type()
    a, b = t.bits(args[1]), t.bits(args[2])
    both = [d.strip() for d in args[0].split('|')]
    if halves(ty):
        left = list(m.left)
        lo = comparison(m, f'(u16)({a})', f'(u16)({b})', halves(ty), how)
        m.left = left
        hi = comparison(m, f'(u16)((u32)({a}) >> 16)', f'(u16)((u32)({b}) >> 16)', halves(ty), how)
        return f'_Bool x = {with_bool(t, lo, join, args)}, y = {with_bool(t, hi, join, args)}; ' \
            + t.assign(both[0], 'x') + (t.assign(both[1], 'y') if len(both) > 1 else '')
    c = comparison(m, a, b, ty, how)
    if len(both) == 1:
        return t.assign(both[0], with_bool(t, c, join, args))
    return f'_Bool x = {with_bool(t, c, join, args)}, y = {with_bool(t, f"!({c})", join, args)}; ' \
        + t.assign(both[0], 'x') + t.assign(both[1], 'y')


@instruction('set')
def set_(t, m, args, name):
    how, join = m.take(*COMPARE), m.take('and', 'or', 'xor')
    source, dest = m.type(), m.type()
    yes = {'f32': '0x3f800000u', 'f16': '0x3c00u', 'bf16': '0x3f80u'}
    a, b = t.bits(args[1]), t.bits(args[2])
    if halves(source):
        left = list(m.left)
        def one(x, y):
            m.left = list(left)
            return f'({comparison(m, x, y, halves(source), how)}) ? {yes.get(halves(dest), "0xffff")} : 0'
        if join:
            raise Bad('.' + join)
        return t.assign(args[0], each_half(one, a, b))
    c = with_bool(t, comparison(m, a, b, source, how), join, args)
    return t.assign(args[0], f'({c}) ? {yes.get(dest, "~0u")} : 0')


@instruction('selp')
def selp(t, m, args, name):
    m.type()
    return t.assign(args[0], f'{t.bits(args[3])} ? {t.bits(args[1])} : {t.bits(args[2])}')


@instruction('slct')
def slct(t, m, args, name):
    m.take('ftz')
    by = m.type()
    m.type()
    return t.assign(args[0], f'{value(t.bits(args[3]), by)} >= 0 ? {t.bits(args[1])} : {t.bits(args[2])}')


@instruction('mov')
def mov(t, m, args, name):
    ty = m.type()
    if args[0].startswith('{'):
        parts = [p.strip() for p in args[0][1:-1].split(',')]
        w = int(WIDTH[ty]) // len(parts)
        return f'u64 x = {t.bits(args[1])}; ' + ' '.join(t.assign(p, f'(u{w})(x >> {i * w})') for i, p in enumerate(parts))
    if args[1].startswith('{'):
        parts = [p.strip() for p in args[1][1:-1].split(',')]
        w = int(WIDTH[ty]) // len(parts)
        return t.assign(args[0], ' | '.join(f'(u64)(u{w})({t.bits(p)}) << {i * w}' for i, p in enumerate(parts)))
    return t.assign(args[0], t.bits(args[1]))


@instruction('cvt')
def cvt(t, m, args, name):
    whole, way = m.take('rni', 'rzi', 'rmi', 'rpi'), m.take('rn', 'rz', 'rm', 'rp', 'rna')
    flush, sat, relu = m.take('ftz'), m.take('sat'), m.take('relu')
    source, dest = m.type(), m.type()
    a = t.bits(args[1])
    if dest == 'tf32':
        if way == 'rna':
            return t.assign(args[0], f'tf32_rna(F({a}))')
        raise Bad(f'.{way}.tf32')
    if halves(dest): # the first operand goes above
        one = [to_float(x, source, halves(dest), None, way, flush, sat, relu) for x in (a, t.bits(args[2]))]
        return t.assign(args[0], f'(u32)(u16)({one[0]}) << 16 | (u16)({one[1]})')
    if dest in FLOATS:
        return t.assign(args[0], to_float(a, source, dest, whole, way, flush, sat, relu))
    v = value(a, source)
    if source in FLOATS:
        if flush and source == 'f32':
            v = f'ftz({v})'
        if dest == 's64' or dest == 'u64':
            return t.assign(args[0], f"to_{dest}({v}, '{ROUND[whole]}')")
        w = int(WIDTH[dest])
        low, high = (0, 2 ** w - 1) if dest[0] == 'u' else (-2 ** (w - 1), 2 ** (w - 1) - 1)
        c = f"to_int({v}, '{ROUND[whole]}', {low}.0, {high}.0)"
        if source == 'f64': # not a number is a number's highest bit alone
            c = f'{v} != {v} ? {2 ** (w - 1)}u : {c}'
        return t.assign(args[0], f'({TYPES[dest]})({c})')
    if sat:
        w = int(WIDTH[dest])
        low, high = (0, 2 ** w - 1) if dest[0] == 'u' else (-2 ** (w - 1), 2 ** (w - 1) - 1)
        return f's128 x = {v}; {t.assign(args[0], f"x < (s128){low}ll ? (s128){low}ll : x > (s128){high}ull ? (s128){high}ull : x")}'
    return t.assign(args[0], f'({TYPES[dest]}){v}')


def to_float(a, source, dest, whole, way, flush, sat, relu):
    v = value(a, source)
    if flush and source == 'f32':
        v = f'ftz({v})'
    if whole:
        v = f"whole({v}, '{ROUND[whole]}')"
    if sat:
        v = f'satd({v})'
    if relu:
        v = f'relu({v})'
    way = ROUND[way or 'rn']
    if way == 'n':
        if dest == 'f32':
            v = f'(float)({v})'
            return pack(f'ftz({v})' if flush else v, dest)
        if dest == 'f64' or source in ('f64', 'f32', 'f16', 'bf16'):
            return pack(f'(double)({v})' if dest == 'f64' else v, dest)
        return pack(f'(double)({v})', dest)
    if dest == 'f32':
        return pack(f"f_dir((long double)({v}), '{way}')", dest)
    if way == 'z' and source == 'f32' and dest in ('f16', 'bf16'):
        return f'{dest[0]}u_rz({v})' if dest == 'bf16' else f'hu_rz({v})'
    raise Bad(f'.r{way}.{dest}.{source}')


@instruction('cvta')
def cvta(t, m, args, name):
    to, space = m.take('to'), m.take(*SPACES)
    m.type()
    a = t.bits(args[1])
    if space == 'shared':
        return t.assign(args[0], f'{a} - (u64)t->shared' if to else f'{a} + (u64)t->shared')
    return t.assign(args[0], a)


@instruction('isspacep')
def isspacep(t, m, args, name):
    space, a = m.take(*SPACES), t.bits(args[1])
    shared, local = f'({a} - (u64)t->shared < t->shared_size)', f'({a} >= t->stack_low && {a} < t->stack_high)'
    return t.assign(args[0], {'shared': shared, 'local': local, 'global': f'!{shared} && !{local}'}[space])
