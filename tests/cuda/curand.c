// A stand-in for libcurand.so.10 on the CPU: a generator that counts, so that a seed and an offset say what comes next.
#include "kernel.h"
#include <stdlib.h>

#define API __attribute__((visibility("default")))
enum { OK = 0, NOT_INITIALIZED = 101, ALLOCATION_FAILED = 102, TYPE_ERROR = 103, OUT_OF_RANGE = 104, LENGTH_NOT_MULTIPLE = 105 };
typedef struct { u64 seed, at; void *stream; } Generator;
int fakeGpuCheck(u64 at, u64 bytes, const char *what); // of the stand-in for libcuda

static u64 next(Generator *g) { // splitmix64
    u64 x = (g->seed + ++g->at) * 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}
static double uniform(Generator *g) { return ((double)(next(g) >> 11) + 1) * 0x1p-53; } // above 0, up to 1, as cuRAND's
static double normal(Generator *g) {
    const double size = sqrt(-2 * log(uniform(g)));
    return size * cos(2 * M_PI * uniform(g));
}

API int curandCreateGenerator(Generator **g, int kind) {
    if (kind < 100 || kind >= 200) return TYPE_ERROR; // those that are not pseudo-random
    return (*g = calloc(1, sizeof **g)) ? OK : ALLOCATION_FAILED;
}
API int curandDestroyGenerator(Generator *g) { return free(g), g ? OK : NOT_INITIALIZED; }
API int curandSetPseudoRandomGeneratorSeed(Generator *g, u64 seed) { // far from its neighbors' numbers
    if (!g) return NOT_INITIALIZED;
    Generator mixed = {seed, 0, 0};
    return g->seed = next(&mixed), g->at = 0, OK;
}
API int curandSetGeneratorOffset(Generator *g, u64 offset) { return g ? (g->at = offset, OK) : NOT_INITIALIZED; }
API int curandSetStream(Generator *g, void *stream) { return g ? (g->stream = stream, OK) : NOT_INITIALIZED; }

#define FILL(NAME, TYPE, ARGUMENTS, ODD, VALUE) \
    API int NAME ARGUMENTS { \
        if (!g) return NOT_INITIALIZED; \
        if (ODD && n % 2) return LENGTH_NOT_MULTIPLE; /* cuRAND makes normal numbers in pairs */ \
        if (fakeGpuCheck((u64)out, n * sizeof(TYPE), #NAME)) return OUT_OF_RANGE; \
        for (size_t i = 0; i < n; i++) out[i] = (TYPE)(VALUE); \
        return OK; \
    }
FILL(curandGenerate, u32, (Generator *g, u32 *out, size_t n), 0, next(g))
FILL(curandGenerateLongLong, u64, (Generator *g, u64 *out, size_t n), 0, next(g))
FILL(curandGenerateUniform, float, (Generator *g, float *out, size_t n), 0, ((float)(next(g) >> 40) + 1) * 0x1p-24f)
FILL(curandGenerateUniformDouble, double, (Generator *g, double *out, size_t n), 0, uniform(g))
FILL(curandGenerateNormal, float, (Generator *g, float *out, size_t n, float mean, float sd), 1, mean + sd * normal(g))
FILL(curandGenerateNormalDouble, double, (Generator *g, double *out, size_t n, double mean, double sd), 1, mean + sd * normal(g))
FILL(curandGenerateLogNormal, float, (Generator *g, float *out, size_t n, float mean, float sd), 1, exp(mean + sd * normal(g)))
FILL(curandGenerateLogNormalDouble, double, (Generator *g, double *out, size_t n, double mean, double sd), 1, exp(mean + sd * normal(g)))
