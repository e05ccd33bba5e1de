// What the threads of a warp do together, once all have come: shuffles, votes, reductions, and products of matrices.
#include "driver.h"

// Row-major A of 16 × k, column-major B of k × 8, C and D of 16 × 8, each spread over the warp's registers as PTX says.
static void multiply(Thread *warp, u32 k, u32 bits, double (*number)(u32)) {
    const u32 per = 32 / bits; // numbers in a register
    double a[16][16], b[16][8];
    for (u32 lane = 0; lane < 32; lane++) {
        const Meet *m = &warp[lane].meet;
        const u32 group = lane / 4, column = lane % 4 * per;
        for (u32 i = 0; i < k * 16 / 32 / per; i++)
            for (u32 j = 0; j < per; j++)
                a[group + (i & 1 ? 8 : 0)][column + j + (i & 2 ? 4 * per : 0)] = number((u32)m->in[i] >> j * bits);
        for (u32 i = 0; i < k * 8 / 32 / per; i++)
            for (u32 j = 0; j < per; j++) b[column + j + i * 4 * per][group] = number((u32)m->in[4 + i] >> j * bits);
    }
    for (u32 lane = 0; lane < 32; lane++) {
        Meet *m = &warp[lane].meet;
        for (u32 i = 0; i < 4; i++) {
            const u32 row = lane / 4 + (i & 2 ? 8 : 0), column = lane % 4 * 2 + (i & 1);
            double sum = 0;
            for (u32 j = 0; j < k; j++) sum += a[row][j] * b[j][column];
            m->out[i] = fu((float)(F((u32)m->in[6 + i]) + sum));
        }
    }
}
static double from_bf16(u32 x) { return B((u16)x); }
static double from_f16(u32 x) { return H((u16)x); }
static double from_tf32(u32 x) { return F(x & ~0x1fffu); } // the last 13 bits are not looked at

static void load_matrices(Thread *warp, int transposed) {
    const u32 count = (u32)warp[0].meet.in[1];
    for (u32 n = 0; n < count; n++) {
        const m16 *row[8];
        for (u32 i = 0; i < 8; i++) {
            Thread *t = &warp[8 * n + i];
            row[i] = (const m16 *)shared_at(t, t->meet.site, t->meet.in[0], 16);
        }
        for (u32 lane = 0; lane < 32; lane++) {
            const u32 i = lane / 4, j = lane % 4 * 2;
            warp[lane].meet.out[n] = transposed ? row[j][i] | (u32)row[j + 1][i] << 16 : row[i][j] | (u32)row[i][j + 1] << 16;
        }
    }
}

static void shuffle(Thread *warp, u32 lanes) {
    for (u32 rest = lanes; rest; rest &= rest - 1) {
        const s32 lane = __builtin_ctz(rest);
        Meet *m = &warp[lane].meet;
        const s32 by = m->in[1] & 31, clamp = m->in[2] & 31, segment = m->in[2] >> 8 & 31;
        const s32 low = lane & segment, high = low | (clamp & ~segment);
        s32 from = m->kind == SHUFFLE_UP ? lane - by : m->kind == SHUFFLE_DOWN ? lane + by
            : m->kind == SHUFFLE_BFLY ? lane ^ by : (low | (by & ~segment));
        m->flag = m->kind == SHUFFLE_UP ? from >= high : from <= high;
        if (!m->flag) from = lane;
        // A lane that is not there has no value: it shows as one that is not a number.
        m->out[0] = lanes >> from & 1 ? warp[from].meet.in[0] : 0xffffffff;
    }
}

void fake_gpu_resolve(Thread *warp, u32 lanes) {
    const u32 first = __builtin_ctz(lanes), kind = warp[first].meet.kind;
    u64 x = warp[first].meet.in[0], all = 1, any = 0, ballot = 0;
    switch (kind) {
    case WARP_SYNC: return;
    case SHUFFLE_IDX: case SHUFFLE_UP: case SHUFFLE_DOWN: case SHUFFLE_BFLY: shuffle(warp, lanes); return;
    default: break;
    }
    if (kind >= LOAD_MATRIX && lanes != ~0u)
        warp[first].calls->fail(&warp[first], warp[first].meet.site, "not all 32 threads of the warp are there");
    switch (kind) {
    case LOAD_MATRIX: load_matrices(warp, 0); return;
    case LOAD_MATRIX_TRANSPOSED: load_matrices(warp, 1); return;
    case MMA_BF16_16: multiply(warp, 16, 16, from_bf16); return;
    case MMA_BF16_8: multiply(warp, 8, 16, from_bf16); return;
    case MMA_F16_16: multiply(warp, 16, 16, from_f16); return;
    case MMA_F16_8: multiply(warp, 8, 16, from_f16); return;
    case MMA_TF32_8: multiply(warp, 8, 32, from_tf32); return;
    case MMA_TF32_4: multiply(warp, 4, 32, from_tf32); return;
    default: break;
    }
    for (u32 rest = lanes; rest; rest &= rest - 1) {
        const u32 lane = __builtin_ctz(rest);
        const u64 y = warp[lane].meet.in[0];
        if (y) any = 1, ballot |= 1ull << lane;
        else all = 0;
        if (lane == first) continue;
        switch (kind) {
        case REDUX_ADD: x += y; break;
        case REDUX_MIN: if (y < x) x = y; break;
        case REDUX_MAX: if (y > x) x = y; break;
        case REDUX_MIN_SIGNED: if ((s32)y < (s32)x) x = y; break;
        case REDUX_MAX_SIGNED: if ((s32)y > (s32)x) x = y; break;
        case REDUX_AND: x &= y; break;
        case REDUX_OR: x |= y; break;
        case REDUX_XOR: x ^= y; break;
        default: break;
        }
    }
    for (u32 rest = lanes; rest; rest &= rest - 1) {
        Meet *m = &warp[__builtin_ctz(rest)].meet;
        u32 same = 0;
        for (u32 others = lanes; others; others &= others - 1)
            if (warp[__builtin_ctz(others)].meet.in[0] == m->in[0]) same |= others & -others;
        m->flag = kind == MATCH_ALL && same == lanes;
        m->out[0] = kind == VOTE_BALLOT ? ballot : kind == VOTE_ANY ? any : kind == VOTE_ALL ? all : kind == VOTE_UNI ? all || !any
            : kind == MATCH_ANY ? same : kind == MATCH_ALL ? (same == lanes ? lanes : 0) : (u32)x;
    }
}
