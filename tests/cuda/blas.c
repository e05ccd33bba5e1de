// A stand-in for libcublas.so.13 on the CPU: handles and products of matrices, with arguments and memory checked.
#include "kernel.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
enum { OK = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 3, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14 };
enum { COMPUTE_16F = 64, COMPUTE_32F = 68, COMPUTE_32F_PEDANTIC = 69, FAST_16F = 74, FAST_16BF = 75, FAST_TF32 = 77, COMPUTE_64F = 70,
    COMPUTE_64F_PEDANTIC = 71 };
enum { TF32_MATH = 3 };
typedef struct { void *stream; int pointer_mode, math_mode; } Handle;
int fakeGpuCheck(u64 at, u64 bytes, const char *what); // of the stand-in for libcuda

API int cublasCreate_v2(Handle **handle) { return handle ? (*handle = calloc(1, sizeof **handle)) ? OK : ALLOC_FAILED : INVALID_VALUE; }
API int cublasDestroy_v2(Handle *handle) { return free(handle), handle ? OK : NOT_INITIALIZED; }
API int cublasSetStream_v2(Handle *handle, void *stream) { return handle ? (handle->stream = stream, OK) : NOT_INITIALIZED; }
API int cublasGetStream_v2(Handle *handle, void **stream) { return handle ? (*stream = handle->stream, OK) : NOT_INITIALIZED; }
API int cublasGetVersion_v2(Handle *handle, int *version) { return (void)handle, *version = 130000, OK; }
API int cublasSetWorkspace_v2(Handle *handle, void *memory, size_t bytes) {
    if (!handle) return NOT_INITIALIZED;
    return bytes && fakeGpuCheck((u64)memory, bytes, "workspace of cuBLAS") ? INVALID_VALUE : OK;
}
API int cublasSetPointerMode_v2(Handle *handle, int mode) { return handle ? (handle->pointer_mode = mode, OK) : NOT_INITIALIZED; }
API int cublasGetPointerMode_v2(Handle *handle, int *mode) { return handle ? (*mode = handle->pointer_mode, OK) : NOT_INITIALIZED; }
API int cublasSetMathMode(Handle *handle, int mode) { return handle ? (handle->math_mode = mode, OK) : NOT_INITIALIZED; }
API int cublasGetMathMode(Handle *handle, int *mode) { return handle ? (*mode = handle->math_mode, OK) : NOT_INITIALIZED; }
API const char *cublasGetStatusName(int status) { return status == OK ? "CUBLAS_STATUS_SUCCESS" : "CUBLAS_STATUS of the fake GPU"; }
API const char *cublasGetStatusString(int status) { return cublasGetStatusName(status); }

// --- The product of f32 ----------------------------------------------------------------------------------------------
// C (m × n, column-major) += op(A) · op(B), in panels of K that are packed to f32: MR rows of C at a time, by NR columns.
enum { MR = 16, NR = 6, KC = 256, MC = 96, NC = 1536 };
typedef float Row __attribute__((vector_size(4 * MR / 2), aligned(4), may_alias));
typedef struct {
    int m, n, k, trans_a, trans_b, a_type, b_type, c_type, way; // way: how f32 inputs are rounded
    const u8 *a, *b;
    u8 *c;
    s64 lda, ldb, ldc;
    float alpha, beta;
} Product;

static u64 size_of(int type) { return type == R_64F ? 8 : type == R_32F ? 4 : 2; }
static float input(const u8 *at, s64 i, int type, int way) {
    if (type == R_16BF) return B(((const m16 *)at)[i]);
    float x = type == R_16F ? H(((const m16 *)at)[i]) : F(((const m32 *)at)[i]);
    if (way == FAST_TF32 && isfinite(x)) { // to nearest, ties to even: 10 bits of the mantissa
        const u32 bits = fu(x);
        x = F((bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu);
    }
    return way == FAST_16BF ? B(bu(x)) : way == FAST_16F ? H(hu(x)) : x;
}
// `count` of the numbers of one row of op(A) or column of op(B), into every `step`-th place.
static void pack(float *to, s64 step, const u8 *from, s64 stride, s64 first, int count, int type, int way) {
    if (type == R_32F && way == 0)
        for (int i = 0; i < count; i++) to[i * step] = ((const float *)from)[first + i * stride];
    else
        for (int i = 0; i < count; i++) to[i * step] = input(from, first + i * stride, type, way);
}
static void kernel(int k, const float *a, const float *b, float *c) { // c: NR columns of MR
    Row sum[NR][2] = {0};
    for (int i = 0; i < k; i++, a += MR, b += NR) {
        const Row low = *(const Row *)a, high = *(const Row *)(a + MR / 2);
#pragma GCC unroll 8
        for (int j = 0; j < NR; j++) sum[j][0] += low * b[j], sum[j][1] += high * b[j];
    }
    for (int j = 0; j < NR; j++) *(Row *)(c + j * MR) += sum[j][0], *(Row *)(c + j * MR + MR / 2) += sum[j][1];
}
// Columns [first, last) of one product.
static void multiply(const Product *p, int first, int last) {
    float *a = aligned_alloc(64, sizeof(float) * MC * KC), *b = aligned_alloc(64, sizeof(float) * (NC + NR) * KC);
    float *c = aligned_alloc(64, sizeof(float) * (size_t)((p->m + MR - 1) / MR * MR) * (NC + NR));
    if (!a || !b || !c) abort();
    const s64 rows = (p->m + MR - 1) / MR * MR;
    for (int j0 = first; j0 < last; j0 += NC) {
        const int nc = last - j0 < NC ? last - j0 : NC;
        memset(c, 0, sizeof(float) * (size_t)rows * ((nc + NR - 1) / NR * NR)); // tiles of MR × NR one after another
        for (int k0 = 0; k0 < p->k; k0 += KC) {
            const int kc = p->k - k0 < KC ? p->k - k0 : KC;
            for (int j = 0; j < nc; j += NR)
                for (int jj = 0; jj < NR; jj++) {
                    float *to = b + (s64)j * kc + jj;
                    if (j + jj >= nc) for (int i = 0; i < kc; i++) to[i * NR] = 0;
                    else if (p->trans_b) pack(to, NR, p->b, p->ldb, j0 + j + jj + (s64)k0 * p->ldb, kc, p->b_type, p->way);
                    else pack(to, NR, p->b, 1, (s64)(j0 + j + jj) * p->ldb + k0, kc, p->b_type, p->way);
                }
            for (int i0 = 0; i0 < p->m; i0 += MC) {
                const int mc = p->m - i0 < MC ? p->m - i0 : MC;
                for (int i = 0; i < mc; i += MR) {
                    float *to = a + (s64)i * kc;
                    const int n = mc - i < MR ? mc - i : MR;
                    if (n < MR) memset(to, 0, sizeof(float) * MR * kc);
                    for (int ii = 0; p->trans_a && ii < n; ii++)
                        pack(to + ii, MR, p->a, 1, (s64)(i0 + i + ii) * p->lda + k0, kc, p->a_type, p->way);
                    for (int kk = 0; !p->trans_a && kk < kc; kk++)
                        pack(to + kk * MR, 1, p->a, 1, i0 + i + (s64)(k0 + kk) * p->lda, n, p->a_type, p->way);
                }
                for (int j = 0; j < nc; j += NR)
                    for (int i = 0; i < mc; i += MR)
                        kernel(kc, a + (s64)i * kc, b + (s64)j * kc, c + (s64)j * rows + (s64)(i0 + i) * NR);
            }
        }
        for (int j = 0; j < nc; j++)
            for (int i = 0; i < p->m; i++) {
                const s64 at = (s64)(j0 + j) * p->ldc + i;
                float x = p->alpha * c[(s64)(j / NR * NR) * rows + (s64)(i / MR * MR) * NR + j % NR * MR + i % MR];
                if (p->beta != 0) x += p->beta * input(p->c, at, p->c_type, 0); // else it need not be a number
                if (p->c_type == R_32F) ((m32 *)p->c)[at] = fu(x);
                else ((m16 *)p->c)[at] = p->c_type == R_16F ? hu(x) : bu(x);
            }
    }
    free(a), free(b), free(c);
}

// --- Batches on up to two threads ------------------------------------------------------------------------------------
typedef struct { Product p; s64 stride_a, stride_b, stride_c; int batch, part, parts; } Batch;
static void *run(void *argument) {
    const Batch *b = argument;
    const int split = b->batch < b->parts; // by columns; else by products
    for (int i = 0; i < b->batch; i++) {
        if (!split && i % b->parts != b->part) continue;
        Product p = b->p;
        p.a += i * b->stride_a * (s64)size_of(p.a_type), p.b += i * b->stride_b * (s64)size_of(p.b_type);
        p.c += i * b->stride_c * (s64)size_of(p.c_type);
        const int each = (p.n + b->parts - 1) / b->parts, first = split ? each * b->part : 0;
        const int last = !split || first + each > p.n ? p.n : first + each;
        if (first < last) multiply(&p, first, last);
    }
    return 0;
}
static int say(const char *what) { return fprintf(stderr, "fake GPU: cuBLAS: %s\n", what), INVALID_VALUE; }
static int known(int type) { return type == R_32F || type == R_16F || type == R_16BF; }
static u64 extent(int rows, int columns, s64 ld, s64 stride, int batch, u64 size) {
    return rows && columns ? ((u64)(batch - 1) * (u64)stride + (u64)(columns - 1) * (u64)ld + (u64)rows) * size : 0;
}
static int checked(int ta, int tb, int m, int n, int k, const void *a, int at, int lda, s64 sa, const void *b, int bt, int ldb, s64 sb,
    const void *c, int ct, int ldc, s64 sc, int batch, int reads) {
    const int ra = ta ? k : m, rb = tb ? n : k;
    if (ta < 0 || ta > 2 || tb < 0 || tb > 2 || m < 0 || n < 0 || k < 0 || batch < 0)
        return say("an argument is negative or no operation");
    if (lda < (ra > 1 ? ra : 1) || ldb < (rb > 1 ? rb : 1) || ldc < (m > 1 ? m : 1)) return say("a leading dimension is too small");
    if (!m || !n || !batch) return OK;
    if (sa < 0 || sb < 0 || sc < 0) return say("a stride is negative");
    if (batch > 1 && (u64)sc < (u64)(n - 1) * (u64)ldc + (u64)m) return say("the products overlap");
    if ((u64)a % size_of(at) || (u64)b % size_of(bt) || (u64)c % size_of(ct)) return say("misaligned");
    if (reads && (fakeGpuCheck((u64)a, extent(ra, ta ? m : k, lda, sa, batch, size_of(at)), "A of cuBLAS")
                     || fakeGpuCheck((u64)b, extent(rb, tb ? k : n, ldb, sb, batch, size_of(bt)), "B of cuBLAS"))) return INVALID_VALUE;
    return fakeGpuCheck((u64)c, extent(m, n, ldc, sc, batch, size_of(ct)), "C of cuBLAS") ? INVALID_VALUE : OK;
}

API int cublasGemmStridedBatchedEx(Handle *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at,
    int lda, long long sa, const void *b, int bt, int ldb, long long sb, const void *beta, void *c, int ct, int ldc, long long sc, int batch,
    int compute, int algo) {
    (void)algo;
    if (!h) return NOT_INITIALIZED;
    if (h->pointer_mode || !alpha || !beta) return say("alpha and beta have to be on the host");
    // The combinations that cuBLAS has, as far as they are of these types.
    const int fast = compute == FAST_16F || compute == FAST_16BF || compute == FAST_TF32;
    const int pair = at == bt && known(at) && known(ct) && (at == R_32F ? ct == R_32F : ct == at || ct == R_32F);
    const int half = compute == COMPUTE_16F && at == R_16F && bt == R_16F && ct == R_16F;
    if (!pair || (compute != COMPUTE_32F && compute != COMPUTE_32F_PEDANTIC && !(fast && at == R_32F) && !half))
    {
        fprintf(stderr, "fake GPU: cuBLAS: no product of types %d, %d, %d with compute type %d\n", at, bt, ct, compute);
        return NOT_SUPPORTED;
    }
    const float x = half ? H(*(const m16 *)alpha) : *(const float *)alpha, y = half ? H(*(const m16 *)beta) : *(const float *)beta;
    const int status = checked(ta, tb, m, n, k, a, at, lda, sa, b, bt, ldb, sb, c, ct, ldc, sc, batch, x != 0);
    if (status || !m || !n || !batch) return status;
    int way = fast ? compute : 0;
    if (compute == COMPUTE_32F && at == R_32F && h->math_mode == TF32_MATH) way = FAST_TF32;
    Batch work[2];
    work[0] = (Batch){{m, n, x == 0 ? 0 : k, ta, tb, at, bt, ct, way, a, b, c, lda, ldb, ldc, x, y}, sa, sb, sc, batch, 0, 1};
    if (2.0 * m * n * k * batch < 2e6 || sysconf(_SC_NPROCESSORS_ONLN) < 2) return run(&work[0]), OK;
    pthread_t other;
    work[0].parts = 2, work[1] = work[0], work[1].part = 1;
    if (pthread_create(&other, 0, run, &work[1])) return EXECUTION_FAILED;
    run(&work[0]);
    return pthread_join(other, 0), OK;
}
API int cublasGemmEx(Handle *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda, const void *b,
    int bt, int ldb, const void *beta, void *c, int ct, int ldc, int compute, int algo) {
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, at, lda, 0, b, bt, ldb, 0, beta, c, ct, ldc, 0, 1, compute, algo);
}
API int cublasSgemmStridedBatched(Handle *h, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda,
    long long sa, const float *b, int ldb, long long sb, const float *beta, float *c, int ldc, long long sc, int batch) {
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, R_32F, lda, sa, b, R_32F, ldb, sb, beta, c, R_32F,
        ldc, sc, batch, COMPUTE_32F, -1);
}
API int cublasSgemm_v2(Handle *h, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda, const float *b,
    int ldb, const float *beta, float *c, int ldc) {
    return cublasSgemmStridedBatched(h, ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1);
}
// Doubles: rare, so plain loops.
API int cublasDgemmStridedBatched(Handle *h, int ta, int tb, int m, int n, int k, const double *alpha, const double *a, int lda,
    long long sa, const double *b, int ldb, long long sb, const double *beta, double *c, int ldc, long long sc, int batch) {
    if (!h) return NOT_INITIALIZED;
    const int status = checked(ta, tb, m, n, k, a, R_64F, lda, sa, b, R_64F, ldb, sb, c, R_64F, ldc, sc, batch, 1);
    for (s64 z = 0; !status && z < batch; z++)
        for (s64 j = 0; j < n; j++)
            for (s64 i = 0; i < m; i++) {
                double sum = 0;
                for (s64 l = 0; l < k; l++)
                    sum += a[z * sa + (ta ? i * lda + l : l * lda + i)] * b[z * sb + (tb ? l * ldb + j : j * ldb + l)];
                double *to = &c[z * sc + j * ldc + i];
                *to = *alpha * sum + (*beta != 0 ? *beta * *to : 0);
            }
    return status;
}
