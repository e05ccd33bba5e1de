// What a translated kernel and the driver that runs it share: threads, checks of memory, and arithmetic as PTX has it.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef unsigned __int128 u128;
typedef __int128 s128;
typedef u8 m8;
typedef u16 __attribute__((may_alias)) m16; // memory is seen as numbers of any type
typedef u32 __attribute__((may_alias)) m32;
typedef u64 __attribute__((may_alias)) m64;
#define HOT(x) __builtin_expect(!!(x), 1)
#define COLD(x) __builtin_expect(!!(x), 0)

// --- Threads ---------------------------------------------------------------------------------------------------------
// An instruction's last allocation: [low, low + span) is where an access of its width may begin.
typedef struct { u64 low, span; } Site;
// What threads of a warp do together: each fills in its own and meets the others, the last to come works for all.
enum { WARP_SYNC, SHUFFLE_IDX, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_BFLY, VOTE_BALLOT, VOTE_ANY, VOTE_ALL, VOTE_UNI, MATCH_ANY,
    MATCH_ALL, REDUX_ADD, REDUX_MIN, REDUX_MAX, REDUX_MIN_SIGNED, REDUX_MAX_SIGNED, REDUX_AND, REDUX_OR, REDUX_XOR, LOAD_MATRIX,
    LOAD_MATRIX_TRANSPOSED, MMA_BF16_16, MMA_BF16_8, MMA_F16_16, MMA_F16_8, MMA_TF32_8, MMA_TF32_4 };
typedef struct { u32 kind, mask, site, flag; u64 in[10], out[4]; } Meet;
enum { BARRIER_SYNC, BARRIER_ARRIVE, BARRIER_POPC, BARRIER_AND, BARRIER_OR };

typedef struct Thread Thread;
typedef struct {
    void (*find)(Thread *, u32 site, u64 address, u32 bytes);    // an access that its site's last allocation does not hold
    void (*fail)(Thread *, u32 site, const char *what);          // says where, and ends the process
    void (*meet)(Thread *);                                      // with the threads of t->meet.mask
    void (*barrier)(Thread *, u32 site, int kind, u32 id, u32 threads); // t->meet.in[0]: a predicate, out[0]: of all
    void (*yield)(Thread *);
} Calls;
struct Thread {
    u32 tid[3], ntid[3], ctaid[3], nctaid[3];
    u32 lane, warp, shared_size, fibers;
    u8 *shared;
    const u8 *params;
    Site *sites;
    const Calls *calls;
    u64 stack_low, stack_high; // local memory is there
    Meet meet;
    void *worker;
};
typedef struct { const char *name; u64 bytes; const u8 *initial; u8 **at; int constant; } Global;
typedef struct {
    u32 params, sites, globals, fibers, shared, local, max_threads, dynamic;
    const u32 *offsets, *sizes; // of parameters
    const char *const *text;    // of instructions that access memory or wait
    const Global *global;
} Info;

static inline m8 *global_at(Thread *t, u32 site, u64 a, u32 bytes) {
    const Site *s = &t->sites[site];
    if (COLD(a - s->low >= s->span || (a & (bytes - 1)))) t->calls->find(t, site, a, bytes);
    return (m8 *)a;
}
static inline m8 *shared_at(Thread *t, u32 site, u64 a, u32 bytes) {
    if (COLD(a + bytes > t->shared_size || a >= t->shared_size)) t->calls->fail(t, site, "out of the block's shared memory");
    if (COLD(a & (bytes - 1))) t->calls->fail(t, site, "misaligned in shared memory");
    return t->shared + a;
}
static inline m8 *generic_at(Thread *t, u32 site, u64 a, u32 bytes) {
    if (a - (u64)t->shared < t->shared_size) return shared_at(t, site, a - (u64)t->shared, bytes);
    if (a >= t->stack_low && a < t->stack_high) return (m8 *)a;
    return global_at(t, site, a, bytes);
}

// --- Bits and numbers ------------------------------------------------------------------------------------------------
static inline float F(u32 x) { float f; memcpy(&f, &x, 4); return f; }
static inline u32 fu(float f) { u32 x; memcpy(&x, &f, 4); return x; }
static inline double D(u64 x) { double f; memcpy(&f, &x, 8); return f; }
static inline u64 du(double f) { u64 x; memcpy(&x, &f, 8); return x; }
static inline float H(u16 x) { _Float16 h; memcpy(&h, &x, 2); return (float)h; }
static inline u16 hu_d(double f) { _Float16 h = (_Float16)f; u16 x; memcpy(&x, &h, 2); return f != f ? 0x7fff : x; }
static inline u16 hu(float f) { _Float16 h = (_Float16)f; u16 x; memcpy(&x, &h, 2); return f != f ? 0x7fff : x; }
static inline float B(u16 x) { return F((u32)x << 16); }
static inline u16 bu(float f) { const u32 x = fu(f); return f != f ? 0x7fff : (x + 0x7fff + (x >> 16 & 1)) >> 16; }
static inline float ftz(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }
static inline double satd(double x) { return x > 0 ? x < 1 ? x : 1 : 0; } // not a number: 0
static inline float relu(float x) { return x != x ? x : x > 0 ? x : 0; }

// a + b as a double whose last bit says whether there is more (rounding to odd), so that rounding again is right.
static inline double add_odd(double a, double b) {
    const double s = a + b, bb = s - a, rest = (a - (s - bb)) + (b - bb);
    if (rest == 0 || rest != rest || isinf(s) || (du(s) & 1)) return s;
    return D((rest > 0) == (s > 0) ? du(s) | 1 : du(s) - 1);
}
static inline double mul_odd(double a, double b) {
    const double p = a * b, rest = fma(a, b, -p);
    if (rest == 0 || rest != rest || isinf(p) || (du(p) & 1)) return p;
    return D((rest > 0) == (p > 0) ? du(p) | 1 : du(p) - 1);
}
static inline double div_odd(double a, double b) {
    const double q = a / b, rest = -fma(q, b, -a) / b;
    if (rest == 0 || rest != rest || isinf(q) || (du(q) & 1)) return q;
    return D((rest > 0) == (q > 0) ? du(q) | 1 : du(q) - 1);
}
static inline double sqrt_odd(double a) {
    const double q = sqrt(a), rest = -fma(q, q, -a);
    if (rest == 0 || rest != rest || isinf(q) || (du(q) & 1)) return q;
    return D(rest > 0 ? du(q) | 1 : du(q) - 1);
}
static inline u16 bu_d(double x) { // through a float whose last bit says whether there is more
    float f = (float)x;
    if ((double)f != x && !isinf(f) && !(fu(f) & 1)) f = F(fabs((double)f) < fabs(x) ? fu(f) | 1 : fu(f) - 1);
    return bu(f);
}
// Rounding to float toward zero ('z'), down ('m') or up ('p').
static inline float f_dir(long double x, char way) {
    float f = (float)x;
    if ((long double)f == x || f != f) return f;
    const int below = way == 'm' || (way == 'z' && x > 0);
    if (below ? (long double)f > x : (long double)f < x) f = nextafterf(f, below ? -INFINITY : INFINITY);
    return f;
}
static inline double d_dir(double s, double rest, char way) { // s + rest, where s is rounded to nearest
    const int below = way == 'm' || (way == 'z' && (s > 0 || (s == 0 && rest > 0)));
    if (rest == 0 || rest != rest || (below ? rest > 0 : rest < 0)) return s;
    return nextafter(s, below ? -INFINITY : INFINITY);
}
static inline double add_dir(double a, double b, char way) {
    const double s = a + b, bb = s - a;
    return d_dir(s, (a - (s - bb)) + (b - bb), way);
}
static inline double mul_dir(double a, double b, char way) { return d_dir(a * b, fma(a, b, -(a * b)), way); }
static inline u16 hu_rz(float x) { u16 h = hu(x); return fabsf(H(h)) > fabsf(x) ? h - 1 : h; }
static inline u16 bu_rz(float x) { return x != x ? 0x7fff : fu(x) >> 16; }
static inline u32 tf32_rna(float x) { return isfinite(x) ? (fu(x) + 0x1000) & ~0x1fffu : fu(x); }

static inline double whole(double x, char way) {
    return way == 'z' ? trunc(x) : way == 'm' ? floor(x) : way == 'p' ? ceil(x) : rint(x);
}
// To integers of up to 32 bits; not a number is 0 unless it is a double's.
static inline s64 to_int(double x, char way, double low, double high) {
    x = whole(x, way);
    return x != x ? 0 : x <= low ? (s64)low : x >= high ? (s64)high : (s64)x;
}
static inline s64 to_s64(double x, char way) {
    x = whole(x, way);
    return x != x || x <= -0x1p63 ? INT64_MIN : x >= 0x1p63 ? INT64_MAX : (s64)x;
}
static inline u64 to_u64(double x, char way) {
    x = whole(x, way);
    return x != x ? 1ull << 63 : x <= 0 ? 0 : x >= 0x1p64 ? UINT64_MAX : (u64)x;
}

// Of -0 and +0 the smaller is -0; a number goes before what is none, unless asked otherwise.
static inline double min_number(double a, double b) { return a != a ? b : b != b ? a : a == b ? (signbit(a) ? a : b) : a < b ? a : b; }
static inline double max_number(double a, double b) { return a != a ? b : b != b ? a : a == b ? (signbit(a) ? b : a) : a > b ? a : b; }
static inline double min_nan(double a, double b) { return a != a || b != b ? NAN : min_number(a, b); }
static inline double max_nan(double a, double b) { return a != a || b != b ? NAN : max_number(a, b); }

// --- Integers --------------------------------------------------------------------------------------------------------
// A division by zero does not stop a GPU: all bits are set.
#define DIVISION(T, S) \
    static inline T div_##T(T a, T b) { return b == 0 ? (T)-1 : S && b == (T)-1 ? (T)(0 - (u64)a) : a / b; } \
    static inline T rem_##T(T a, T b) { return b == 0 ? a : S && b == (T)-1 ? 0 : a % b; }
DIVISION(u16, 0) DIVISION(u32, 0) DIVISION(u64, 0) DIVISION(s16, 1) DIVISION(s32, 1) DIVISION(s64, 1)

static inline u64 bfe_bits(u64 a, u32 at, u32 n, u32 width) {
    at &= 255, n &= 255;
    if (n == 0 || at >= width) return 0;
    return a >> at & (n >= 64 ? ~0ull : (1ull << n) - 1);
}
static inline u64 bfe_signed(u64 a, u32 at, u32 n, u32 width) {
    at &= 255, n &= 255;
    if (n == 0) return 0;
    const u32 top = at + n - 1 < width - 1 ? at + n - 1 : width - 1, have = at < width ? top + 1 - at : 0;
    const u64 bits = bfe_bits(a, at, n, width);
    return a >> top & 1 && have < 64 ? bits | ~0ull << have : bits;
}
static inline u64 bfi_bits(u64 a, u64 b, u32 at, u32 n, u32 width) {
    at &= 255, n &= 255;
    if (n == 0 || at >= width) return b;
    const u64 mask = (n >= 64 ? ~0ull : (1ull << n) - 1) << at;
    return (b & ~mask) | (a << at & mask);
}
static inline u32 prmt_bytes(u32 a, u32 b, u32 how) {
    const u64 both = (u64)b << 32 | a;
    u32 r = 0;
    for (int i = 0; i < 4; i++) {
        const u32 n = how >> 4 * i & 15;
        const u8 byte = both >> 8 * (n & 7);
        r |= (u32)(n & 8 ? (byte & 128 ? 255 : 0) : byte) << 8 * i;
    }
    return r;
}
static inline u64 lop3_bits(u64 a, u64 b, u64 c, u32 table) {
    u64 r = 0;
    for (int i = 0; i < 8; i++)
        if (table >> i & 1) r |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return r;
}
static inline u64 reverse_bits(u64 a, u32 width) {
    u64 r = 0;
    for (u32 i = 0; i < width; i++) r |= (a >> i & 1) << (width - 1 - i);
    return r;
}
static inline u32 bfind_bit(u64 a) { return a ? 63u - (u32)__builtin_clzll(a) : ~0u; }
