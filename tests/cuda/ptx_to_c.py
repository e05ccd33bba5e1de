# Translates one entry function of a PTX module, with all that it uses, to C (see kernel.h), and compiles it.
#   python3 ptx_to_c.py MODULE.ptx ENTRY          prints the C
#   python3 ptx_to_c.py MODULE.ptx ENTRY FILE.so  compiles it; exit status 3: there is no such entry
# Registers are unsigned integers of their width, an instruction is one statement, a label a label. What is not known
# is an error that names it.
import os, re, subprocess, sys
sys.dont_write_bytecode = True # nothing is left beside the sources
import ptx_memory # its instructions
from ptx_instructions import INSTRUCTIONS, Bad, TYPES, WIDTH

SIZES = {'8': 1, '16': 2, '32': 4, '64': 8}
SPECIAL = {f'%{name}.{axis}': f't->{name}[{i}]' for name in ('tid', 'ntid', 'ctaid', 'nctaid') for i, axis in enumerate('xyz')}
SPECIAL |= {'%laneid': 't->lane', '%warpid': 't->warp', '%nwarpid': '32', '%smid': '0', '%nsmid': '1', '%gridid': '0',
            '%lanemask_eq': '(1u << t->lane)', '%lanemask_lt': '((1u << t->lane) - 1)', '%clock': '0', '%clock64': '0',
            '%lanemask_le': '(~0u >> (31 - t->lane))', '%lanemask_ge': '(~0u << t->lane)',
            '%lanemask_gt': '(~1u << t->lane)', '%globaltimer': '0', 'WARP_SZ': '32'}
# Exactly as written: nothing is contracted, and nothing assumed about numbers.
COMPILE = ['cc', '-std=gnu11', '-O2', '-ffp-contract=off', '-march=x86-64-v3', '-fno-strict-aliasing', '-w', '-fPIC', '-shared',
           '-I', os.path.dirname(os.path.abspath(__file__))]
NAME = r'[%A-Za-z_$][\w$]*'
DATA = re.compile(rf'\.(b|u|s|f)(8|16|32|64)\s+({NAME})\s*(?:\[\s*(\d*)\s*\])?')


def ident(prefix, name):
    return prefix + name.replace('%', 'R').replace('$', 'S')


class Module:
    def __init__(self, text):
        text = re.sub(r'//[^\n]*', '', text)
        text = re.sub(r'/\*.*?\*/', '', text, flags=re.S)
        text = re.sub(r'(?m)^[ \t]*\.(loc|file)\b[^\n]*', '', text)
        self.functions, self.data, at = {}, {}, 0
        for m in re.finditer(r'[{};]', text):
            if m.start() < at:
                continue
            head = text[at:m.start()].strip()
            if m.group() == '{':
                depth = end = None
                for brace in re.finditer(r'[{}]', text[m.start():]):
                    depth = (depth or 0) + (1 if brace.group() == '{' else -1)
                    if depth == 0:
                        end = m.start() + brace.end()
                        break
                if '.func' in head or '.entry' in head:
                    self.function(head, text[m.start() + 1:end - 1])
                elif '=' in head:
                    self.variable(head, text[m.start() + 1:end - 1])
                at = end
                continue
            at = m.end()
            if '.func' in head or '.entry' in head:
                self.function(head, None)
            elif head:
                self.variable(head, None)

    def function(self, head, body):
        head = re.sub(r'^(\s*\.(version|target|address_size)[^\n]*\n)+', '', head)
        m = re.search(rf'\.(entry|func)\s*(\([^)]*\))?\s*({NAME})\s*(\([^)]*\))?(.*)$', head, re.S)
        kind, out, name, params, rest = m.groups()
        def declared(text):
            found = []
            for item in (text or '()').strip()[1:-1].split(','):
                if item.strip():
                    if '.param' not in item:
                        raise Bad(f'parameter of {name}: {item.strip()}')
                    found.append(data_of(item))
            return found
        if body is not None or name not in self.functions:
            self.functions[name] = (kind, declared(out), declared(params), rest, body)

    def variable(self, head, values):
        for line in head.split('\n'):
            if re.match(r'\s*(\.(version|target|address_size|section|alias)\b.*)?$', line):
                head = head.replace(line, '', 1)
        m = re.search(r'\.(global|const|shared)\b', head)
        if not m:
            if head.strip():
                raise Bad('at module level: ' + head.strip()[:100])
            return
        if '=' in head and values is None:
            head, values = head.split('=', 1)
        name, size, align, width = data_of(head)
        self.data[name] = (m.group(1), size, align, width, values, '.extern' in head)


def data_of(text):
    m = DATA.search(text)
    if not m:
        raise Bad('declaration: ' + text.strip()[:100])
    align = re.search(r'\.align\s+(\d+)', text)
    width = SIZES[m.group(2)]
    size = width * (1 if m.group(4) is None else int(m.group(4) or 0))
    return m.group(3), size, int(align.group(1)) if align else width, width


def statements(body):
    """('{' or '}' or a label and ':' or a statement) one after another."""
    at, n = 0, len(body)
    space, label = re.compile(r'\s*'), re.compile(rf'({NAME})\s*:(?!:)')
    end = re.compile(r'[;{}]')
    while True:
        at = space.match(body, at).end()
        if at >= n:
            return
        if body[at] in '{};':
            if body[at] != ';':
                yield body[at]
            at += 1
            continue
        m = label.match(body, at)
        if m:
            yield m.group(1) + ':'
            at = m.end()
            continue
        depth, start = 0, at
        while True:
            m = end.search(body, at)
            if not m:
                raise Bad('no end: ' + body[start:start + 80])
            at = m.end()
            if m.group() == ';' and depth == 0:
                break
            depth += {'{': 1, '}': -1, ';': 0}[m.group()]
        yield ' '.join(body[start:at - 1].split())


class Translator:
    """Of one entry: collects functions, data and shared variables as they come up."""
    def __init__(self, module, entry):
        self.module, self.entry = module, entry
        self.sites, self.shared, self.shared_at, self.dynamic = [], {}, 0, set()
        self.globals, self.todo, self.done, self.fibers, self.local = {}, [entry], {}, False, 0
        while self.todo:
            name = self.todo.pop()
            if name not in self.done:
                self.done[name] = ''
                self.done[name] = self.function(name)
        self.shared_end = (self.shared_at + 15) // 16 * 16

    # --- names and operands ---
    def symbol(self, name):
        """The address of what is no register, as C."""
        for scope in reversed(self.scopes):
            if name in scope:
                kind, c = scope[name]
                if kind in ('local', 'param'):
                    return f'(u64){c}'
                raise Bad(f'register {name} as an address')
        if name in self.shared:
            return f'SHARED_{ident("", name)}'
        if name in self.module.data:
            space, size, align, width, values, extern = self.module.data[name]
            if space == 'shared':
                self.add_shared(name, size, align, extern)
                return f'SHARED_{ident("", name)}'
            if extern:
                raise Bad(f'data of another module: {name}')
            self.globals[name] = self.module.data[name]
            return f'(u64){ident("G_", name)}'
        raise Bad(f'unknown name {name}')

    def add_shared(self, name, size, align, extern):
        if extern or size == 0:
            self.dynamic.add(name)
            self.shared[name] = None
            return
        self.shared_at = (self.shared_at + align - 1) // align * align
        self.shared[name] = self.shared_at
        self.shared_at += size

    def register(self, name):
        """(C name, type) or None."""
        for scope in reversed(self.scopes):
            if name in scope and scope[name][0] not in ('local', 'param'):
                return scope[name][1], scope[name][0]
        m = re.match(r'(.*?)(\d+)$', name)
        if m:
            for scope in reversed(self.scopes):
                if m.group(1) + '<>' in scope:
                    kind, _ = scope[m.group(1) + '<>']
                    self.used[ident('v_', name)] = kind
                    return ident('v_', name), kind
        return None

    def bits(self, op):
        """An operand's bits as an unsigned C expression."""
        op = op.strip()
        reg = self.register(op)
        if reg:
            return reg[0]
        if op in SPECIAL:
            return SPECIAL[op]
        if re.fullmatch(r'0[fF][0-9a-fA-F]{8}', op):
            return f'0x{op[2:]}u'
        if re.fullmatch(r'0[dD][0-9a-fA-F]{16}', op):
            return f'0x{op[2:]}ull'
        m = re.fullmatch(r'(-?)(0[xX][0-9a-fA-F]+|\d+)U?', op)
        if m:
            return f'(u64){m.group(1)}{int(m.group(2), 0)}ull'
        if op.startswith('!'):
            return f'!{self.bits(op[1:])}'
        m = re.fullmatch(rf'({NAME})\s*\+\s*(\d+)', op)
        if m:
            return f'({self.symbol(m.group(1))} + {m.group(2)})'
        if re.fullmatch(NAME, op):
            return self.symbol(op)
        raise Bad(f'operand {op}')

    def assign(self, op, c):
        """C that gives a register a value; `_` takes none."""
        op = op.strip()
        if op == '_':
            return f'(void)({c});'
        reg = self.register(op)
        if not reg:
            raise Bad(f'destination {op}')
        if reg[1] == 'pred':
            return f'{reg[0]} = !!({c});'
        return f'{reg[0]} = ({TYPES["u" + WIDTH[reg[1]]]})({c});'

    def width(self, op):
        reg = self.register(op.strip())
        return int(WIDTH[reg[1]]) if reg and reg[1] != 'pred' else None

    def site(self, text):
        self.sites.append(text)
        return len(self.sites) - 1

    def address(self, op):
        m = re.fullmatch(r'\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+)\s*)?\]', op.strip())
        if not m:
            raise Bad(f'address {op}')
        c = self.bits(m.group(1))
        off = int(m.group(2), 0) if m.group(2) else 0
        return f'((u64){c} + (u64){off}ll)' if off else f'(u64){c}'

    # --- functions ---
    def function(self, name):
        if name not in self.module.functions:
            raise Bad(f'unknown function {name}')
        kind, outs, params, rest, body = self.module.functions[name]
        if body is None:
            raise Bad(f'function {name} of another module')
        self.scopes, self.used, self.is_entry, self.targets = [{}], {}, kind == 'entry', {}
        self.rest = rest
        for data in outs + params:
            self.scopes[0][data[0]] = ('param', ident('P_', data[0]))
        lines = []
        for text in statements(body):
            if text == '{':
                self.scopes.append({})
                lines.append('{')
            elif text == '}':
                self.scopes.pop()
                lines.append('}')
            elif text.endswith(':') and re.fullmatch(NAME + ':', text):
                lines.append(ident('L_', text[:-1]) + ':;')
            else:
                try:
                    lines.append(self.statement(text))
                except (Bad, ValueError, KeyError, IndexError) as e:
                    raise Bad(f'{name}: `{text}`: {e if isinstance(e, Bad) else repr(e)}') from None
        registers = ''.join(f'    {TYPES["u" + WIDTH[k]] if k != "pred" else "_Bool"} {v};\n' for v, k in self.used.items())
        head = f'{self.signature(name)}\n{{\n'
        if self.is_entry:
            self.params, at = [], 0
            for param, size, align, _ in params:
                at = (at + align - 1) // align * align
                head += f'    const u8 *const {ident("P_", param)} = t->params + {at};\n'
                self.params.append((at, size))
                at += size
        return head + '    u64 carry = 0;\n' + registers + '\n'.join('    ' + line for line in lines) + '\n}\n'

    def signature(self, name):
        kind, outs, params, _, _ = self.module.functions[name]
        if kind == 'entry':
            return 'void ptx_kernel(Thread *t)'
        args = ''.join(f', u8 *{ident("P_", data[0])}' for data in outs + params)
        return f'static void {ident("FN_", name)}(Thread *t{args})'

    def statement(self, text):
        guard = ''
        m = re.match(r'@(!?)\s*(\S+)\s+(.*)$', text)
        if m:
            guard, text = f'if ({m.group(1)}{self.bits(m.group(2))}) ', m.group(3)
        if text.startswith('.'):
            return self.declare(text)
        op, _, operands = text.partition(' ')
        base, *mods = op.split('.')
        if base not in INSTRUCTIONS:
            raise Bad(f'instruction {op}')
        args = [a.strip() for a in re.findall(r'(?:\{[^}]*\}|\([^)]*\)|\[[^\]]*\]|[^,])+', operands) if a.strip()]
        self.text = text
        c = INSTRUCTIONS[base](self, mods, args)
        return f'{guard}{{ {c} }}'

    def declare(self, text):
        scope = self.scopes[-1]
        m = re.match(r'\.reg\s*\.(pred|[busf]\d+|f16x2|bf16|bf16x2)\s+(.*)$', text)
        if m:
            kind, c = m.group(1), ''
            for name in m.group(2).split(','):
                name = name.strip()
                many = re.fullmatch(r'(.*)<\d+>', name)
                if many and len(self.scopes) > 1: # of a block of its own: not to be mixed up with those outside
                    raise Bad('registers with numbers in a block')
                if many:
                    scope[many.group(1) + '<>'] = (kind, None)
                else:
                    scope[name] = (kind, ident('v_', name))
                    c += f'{TYPES["u" + WIDTH[kind]] if kind != "pred" else "_Bool"} {ident("v_", name)}; '
            return c
        if text.startswith(('.local', '.param')):
            name, size, align, _ = data_of(text)
            scope[name] = (text[1:6], ident('P_', name))
            self.local += size if text.startswith('.local') else 0
            return f'_Alignas({max(align, 8)}) u8 {ident("P_", name)}[{max(size, 8)}];'
        if text.startswith('.shared'):
            name, size, align, _ = data_of(text)
            self.add_shared(name, size, align, False)
            return ''
        if text.startswith(('.pragma', '.branchtargets')): # see targets_of
            return ''
        raise Bad('directive')

    def targets_of(self, label):
        body = self.module.functions[self.current()][4]
        m = re.search(rf'{re.escape(label)}\s*:\s*\.branchtargets\s+([^;]*);', body)
        return [x.strip() for x in m.group(1).split(',')]

    def current(self):
        return next(reversed([n for n, c in self.done.items() if c == '']))

    def c(self):
        out = ['#include "kernel.h"']
        names = sorted(self.globals)
        for name in names:
            space, size, align, width, values, _ = self.globals[name]
            out.append(f'static u8 *{ident("G_", name)};')
            numbers = [v.strip() for v in values.split(',')] if values else []
            numbers = [f'0x{v[2:]}ull' if v[:2].lower() in ('0f', '0d') else v for v in numbers if v]
            if any(not re.fullmatch(r'-?\w+', v) for v in numbers):
                raise Bad(f'value of {name}: an address')
            numbers = ', '.join(f'({TYPES["u%d" % (8 * width)]}){v}' for v in numbers)
            out.append(f'static const {TYPES["u%d" % (8 * width)]} {ident("I_", name)}[{max(size // width, 1)}] = {{{numbers}}};')
        for name, at in self.shared.items():
            out.append(f'#define SHARED_{ident("", name)} {self.shared_end if at is None else at}ull')
        out += [self.signature(n) + ';' for n in self.done]
        out += self.done.values()
        quote = lambda s: '"' + s.replace('\\', '\\\\').replace('"', '\\"') + '"'
        out.append('static const char *const texts[] = {' + ', '.join(map(quote, self.sites + [''])) + '};')
        rows = ', '.join(f'{{{quote(n)}, {self.globals[n][1]}, (const u8 *){ident("I_", n)}, &{ident("G_", n)}, '
                         f'{int(self.globals[n][0] == "const")}}}' for n in names)
        out.append(f'static const Global all[] = {{{rows or "{0}"}}};')
        for what, i in (('offsets', 0), ('sizes', 1)):
            out.append(f'static const u32 {what}[] = {{{", ".join(str(p[i]) for p in self.params) or 0}}};')
        limit = re.search(r'\.maxntid\s+([\d, ]+)', self.module.functions[self.entry][3])
        threads = 1
        for n in limit.group(1).split(',') if limit else ['1024']:
            threads *= int(n)
        out.append(f'const Info ptx_info = {{{len(self.params)}, {len(self.sites)}, {len(names)}, {int(self.fibers)}, '
                   f'{self.shared_end}, {self.local}, {threads}, {int(bool(self.dynamic))}, offsets, sizes, texts, all}};')
        return '\n'.join(out) + '\n'


def main(ptx, entry, so=None):
    module = Module(open(ptx).read())
    if module.functions.get(entry, ('',))[0] != 'entry':
        return 3
    try:
        c = Translator(module, entry).c()
    except Bad as e:
        print(f'ptx_to_c: {entry}: not known: {e}', file=sys.stderr)
        return 1
    if so is None:
        print(c)
        return 0
    work = f'{so}.{os.getpid()}'
    with open(work + '.c', 'w') as f:
        f.write(c)
    run = subprocess.run(COMPILE + ['-o', work + '.so', work + '.c', '-lm'])
    if run.returncode == 0:
        os.replace(work + '.so', so) # whole, whoever else makes it at the same time
        os.remove(work + '.c')
    return run.returncode


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
