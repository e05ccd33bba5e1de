// A stand-in for libcuda.so.1 that runs everything on the CPU, at once and in order: the functions of the driver's API
// that cudarc and candle call. Others are missing, which the program's own lazy library answers with an error.
//   SAESCOPE_FAKE_GPU_COUNT      devices (1); 0: none, as without a GPU
//   SAESCOPE_FAKE_GPU_MEMORY     bytes of a device (16 GiB)
//   SAESCOPE_FAKE_GPU_UNCHECKED  set: accesses of kernels are not checked
//   SAESCOPE_FAKE_GPU_THREADS    of the host, for blocks (as many as cores, 4 at most)
//   SAESCOPE_FAKE_GPU_CACHE      folder of compiled kernels
//   SAESCOPE_FAKE_GPU_TRACE      set: every launch is printed
#include "driver.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef int Status;
typedef u64 Pointer;
#define API __attribute__((visibility("default")))
static __thread void *current;
static struct { int number; } contexts[16];
static int initialized;

static int devices(void) {
    const char *count = getenv("SAESCOPE_FAKE_GPU_COUNT");
    return count ? atoi(count) : 1;
}
static int context_of(int device, void **context) {
    if (!initialized) return NOT_INITIALIZED;
    if (device < 0 || device >= devices() || device >= 16) return INVALID_DEVICE;
    *context = &contexts[device];
    return OK;
}
static int no_context(const char *function) { // as the driver's documentation has it for nearly all functions
    return fprintf(stderr, "fake GPU: %s: on a thread without a context (cuCtxSetCurrent)\n", function), INVALID_CONTEXT;
}
#define NEED_CONTEXT if (!initialized) return NOT_INITIALIZED; if (!current) return no_context(__func__)

// --- Devices and contexts --------------------------------------------------------------------------------------------
API Status cuInit(unsigned flags) { return flags ? INVALID_VALUE : devices() ? (initialized = 1, OK) : NO_DEVICE; }
API Status cuDriverGetVersion(int *version) { return *version = 13000, OK; }
API Status cuDeviceGetCount(int *count) { return initialized ? (*count = devices(), OK) : NOT_INITIALIZED; }
API Status cuDeviceGet(int *device, int ordinal) {
    void *context;
    const int status = context_of(ordinal, &context);
    return status ? status : (*device = ordinal, OK);
}
API Status cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    return snprintf(name, length, "CPU as a GPU"), OK;
}
API Status cuDeviceGetUuid_v2(u8 *uuid, int device) { return memset(uuid, 0, 16), uuid[15] = (u8)device, OK; }
API Status cuDeviceGetUuid(u8 *uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }
API Status cuDeviceTotalMem_v2(u64 *bytes, int device) { return (void)device, *bytes = memory_total(), OK; }
API Status cuDeviceGetAttribute(int *value, int attribute, int device) {
    static const int values[][2] = {{1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 0x7fffffff}, {6, 65535}, {7, 65535},
        {8, 49152}, {9, 65536}, {10, 32}, {12, 65536}, {13, 1000000}, {16, 8}, {31, 1}, {36, 1000000}, {37, 64}, {38, 4 << 20},
        {39, 2048}, {40, 1}, {41, 1}, {75, 8}, {76, 0}, {78, 1}, {81, 228 * 1024}, {82, 65536}, {83, 1}, {97, 227 * 1024},
        {106, 32}, {111, 1024}, {115, 1}};
    void *context;
    if (context_of(device, &context)) return INVALID_DEVICE;
    *value = 0;
    for (u64 i = 0; i < sizeof values / sizeof *values; i++)
        if (values[i][0] == attribute) *value = values[i][1];
    return attribute < 1 || attribute > 200 ? INVALID_VALUE : OK;
}
API Status cuDevicePrimaryCtxRetain(void **context, int device) { return context_of(device, context); }
API Status cuDevicePrimaryCtxRelease_v2(int device) { return (void)device, OK; }
API Status cuCtxGetCurrent(void **context) { return initialized ? (*context = current, OK) : NOT_INITIALIZED; }
API Status cuCtxSetCurrent(void *context) { return initialized ? (current = context, OK) : NOT_INITIALIZED; }
API Status cuCtxGetDevice(int *device) {
    NEED_CONTEXT;
    return *device = (int)((char *)current - (char *)contexts) / (int)sizeof *contexts, OK;
}
API Status cuCtxSynchronize(void) { NEED_CONTEXT; return OK; }
API Status cuCtxSetFlags(unsigned flags) { return (void)flags, OK; }
API Status cuCtxSetLimit(int limit, u64 value) { return (void)limit, (void)value, OK; }
API Status cuCtxGetLimit(u64 *value, int limit) { return (void)limit, *value = 65536, OK; }
API Status cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = *greatest = 0, OK; }

// --- Streams and events: everything is done when a function returns ----------------------------------------------------
typedef struct { struct timespec at; } Event;
static char streams[1024];
static u32 stream_number;
API Status cuStreamCreate(void **stream, unsigned flags) {
    NEED_CONTEXT;
    (void)flags;
    return *stream = &streams[__atomic_fetch_add(&stream_number, 1, __ATOMIC_RELAXED) % sizeof streams], OK;
}
API Status cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
    return (void)priority, cuStreamCreate(stream, flags);
}
API Status cuStreamDestroy_v2(void *stream) { return stream ? OK : INVALID_HANDLE; }
API Status cuStreamSynchronize(void *stream) { NEED_CONTEXT; return (void)stream, OK; }
API Status cuStreamQuery(void *stream) { return (void)stream, OK; }
API Status cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    return (void)stream, (void)flags, event ? OK : INVALID_HANDLE;
}
API Status cuStreamIsCapturing(void *stream, int *status) { return (void)stream, *status = 0, OK; }
API Status cuLaunchHostFunc(void *stream, void (*f)(void *), void *argument) { return (void)stream, f(argument), OK; }
API Status cuEventCreate(Event **event, unsigned flags) {
    NEED_CONTEXT;
    (void)flags;
    return (*event = calloc(1, sizeof **event)) ? OK : OUT_OF_MEMORY;
}
API Status cuEventDestroy_v2(Event *event) { return free(event), event ? OK : INVALID_HANDLE; }
API Status cuEventRecord(Event *event, void *stream) {
    NEED_CONTEXT;
    return (void)stream, event ? (clock_gettime(CLOCK_MONOTONIC, &event->at), OK) : INVALID_HANDLE;
}
API Status cuEventSynchronize(Event *event) { return event ? OK : INVALID_HANDLE; }
API Status cuEventQuery(Event *event) { return event ? OK : INVALID_HANDLE; }
API Status cuEventElapsedTime_v2(float *milliseconds, Event *from, Event *to) {
    if (!from || !to || !from->at.tv_sec || !to->at.tv_sec) return INVALID_HANDLE;
    *milliseconds = (float)((to->at.tv_sec - from->at.tv_sec) * 1e3 + (to->at.tv_nsec - from->at.tv_nsec) * 1e-6);
    return OK;
}
API Status cuEventElapsedTime(float *milliseconds, Event *from, Event *to) { return cuEventElapsedTime_v2(milliseconds, from, to); }

// --- Memory ----------------------------------------------------------------------------------------------------------
API Status fakeGpuCheck(Pointer at, u64 bytes, const char *what) { return fake_gpu_check(at, bytes, what); } // for cuBLAS, cuRAND
static Status allocate(Pointer *at, u64 bytes) {
    NEED_CONTEXT;
    lock();
    const Status status = memory_alloc(at, bytes);
    unlock();
    return status;
}
static Status release(Pointer at) {
    NEED_CONTEXT;
    lock();
    const Status status = memory_free(at);
    unlock();
    return status;
}
API Status cuMemAlloc_v2(Pointer *at, u64 bytes) { return bytes ? allocate(at, bytes) : INVALID_VALUE; }
API Status cuMemAllocAsync(Pointer *at, u64 bytes, void *stream) { return (void)stream, bytes ? allocate(at, bytes) : (*at = 0, OK); }
API Status cuMemAllocFromPoolAsync(Pointer *at, u64 bytes, void *pool, void *stream) {
    return (void)pool, cuMemAllocAsync(at, bytes, stream);
}
API Status cuMemAllocManaged(Pointer *at, u64 bytes, unsigned flags) { return (void)flags, cuMemAlloc_v2(at, bytes); }
API Status cuMemFree_v2(Pointer at) { return release(at); }
API Status cuMemFreeAsync(Pointer at, void *stream) { return (void)stream, release(at); }
API Status cuMemHostAlloc(void **at, u64 bytes, unsigned flags) {
    (void)flags;
    return (*at = aligned_alloc(64, (bytes + 64) / 64 * 64)) ? OK : OUT_OF_MEMORY;
}
API Status cuMemFreeHost(void *at) { return free(at), OK; }
API Status cuMemGetInfo_v2(u64 *available, u64 *total) {
    NEED_CONTEXT;
    lock();
    *total = memory_total();
    *available = *total > memory_used() ? *total - memory_used() : 0;
    unlock();
    return OK;
}
static char pool;
API Status cuDeviceGetDefaultMemPool(void **p, int device) { return (void)device, *p = &pool, OK; }
API Status cuDeviceGetMemPool(void **p, int device) { return (void)device, *p = &pool, OK; }
API Status cuDeviceSetMemPool(int device, void *p) { return (void)device, (void)p, OK; }
API Status cuMemPoolSetAttribute(void *p, int attribute, void *value) { return (void)p, (void)attribute, (void)value, OK; }
API Status cuMemPoolGetAttribute(void *p, int attribute, void *value) { // from 5 on: bytes reserved and used, now and at most
    (void)p;
    if (attribute >= 5 || attribute == 4) *(u64 *)value = attribute == 4 ? 0 : memory_used();
    else *(int *)value = 1;
    return OK;
}
API Status cuMemPoolTrimTo(void *p, u64 bytes) { return (void)p, (void)bytes, OK; }

static Status copy(void *to, const void *from, u64 bytes, int to_device, int from_device, const char *what) {
    NEED_CONTEXT;
    if (to_device && fake_gpu_check((Pointer)to, bytes, what)) return INVALID_VALUE;
    if (from_device && fake_gpu_check((Pointer)from, bytes, what)) return INVALID_VALUE;
    if (bytes) memmove(to, from, bytes);
    return OK;
}
API Status cuMemcpyHtoD_v2(Pointer to, const void *from, u64 n) { return copy((void *)to, from, n, 1, 0, "copy from host to device"); }
API Status cuMemcpyDtoH_v2(void *to, Pointer from, u64 n) { return copy(to, (void *)from, n, 0, 1, "copy from device to host"); }
API Status cuMemcpyDtoD_v2(Pointer to, Pointer from, u64 n) {
    return copy((void *)to, (void *)from, n, 1, 1, "copy from device to device");
}
API Status cuMemcpyHtoDAsync_v2(Pointer to, const void *from, u64 n, void *stream) { return (void)stream, cuMemcpyHtoD_v2(to, from, n); }
API Status cuMemcpyDtoHAsync_v2(void *to, Pointer from, u64 n, void *stream) { return (void)stream, cuMemcpyDtoH_v2(to, from, n); }
API Status cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, u64 n, void *stream) { return (void)stream, cuMemcpyDtoD_v2(to, from, n); }
API Status cuMemcpyPeerAsync(Pointer to, void *to_context, Pointer from, void *from_context, u64 n, void *stream) {
    return (void)to_context, (void)from_context, (void)stream, cuMemcpyDtoD_v2(to, from, n);
}
static Status set(Pointer at, u32 value, u64 count, u64 width) {
    NEED_CONTEXT;
    if (fake_gpu_check(at, count * width, "memset")) return INVALID_VALUE;
    if (at % width) return INVALID_VALUE;
    for (u64 i = 0; width > 1 && i < count; i++) memcpy((u8 *)at + i * width, &value, width);
    if (width == 1 && count) memset((void *)at, (int)value, count);
    return OK;
}
API Status cuMemsetD8_v2(Pointer at, u8 value, u64 n) { return set(at, value, n, 1); }
API Status cuMemsetD16_v2(Pointer at, u16 value, u64 n) { return set(at, value, n, 2); }
API Status cuMemsetD32_v2(Pointer at, u32 value, u64 n) { return set(at, value, n, 4); }
API Status cuMemsetD8Async(Pointer at, u8 value, u64 n, void *stream) { return (void)stream, set(at, value, n, 1); }
API Status cuMemsetD16Async(Pointer at, u16 value, u64 n, void *stream) { return (void)stream, set(at, value, n, 2); }
API Status cuMemsetD32Async(Pointer at, u32 value, u64 n, void *stream) { return (void)stream, set(at, value, n, 4); }

// --- Modules and launches ----------------------------------------------------------------------------------------------
API Status cuModuleLoadData(Module **module, const void *image) {
    NEED_CONTEXT;
    if (!memmem(image, strnlen(image, 4096), ".version", 8)) return INVALID_PTX; // not PTX, or no text at all
    Module *m = calloc(1, sizeof *m);
    m->length = strlen(image);
    m->ptx = malloc(m->length + 1);
    memcpy(m->ptx, image, m->length + 1);
    hash_bytes(m->hash, m->ptx, m->length);
    return *module = m, OK;
}
API Status cuModuleLoadDataEx(Module **module, const void *image, unsigned n, void *options, void *values) {
    return (void)n, (void)options, (void)values, cuModuleLoadData(module, image);
}
API Status cuModuleLoad(Module **module, const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return 301;
    char *text = calloc(1, 64 << 20);
    const size_t n = fread(text, 1, (64 << 20) - 1, f);
    fclose(f);
    const Status status = n ? cuModuleLoadData(module, text) : INVALID_PTX;
    return free(text), status;
}
API Status cuModuleUnload(Module *module) { // its functions stay, so that one that is launched later does no harm
    return module ? (free(module->ptx), module->ptx = 0, OK) : INVALID_HANDLE;
}
API Status cuModuleGetFunction(Function **function, Module *module, const char *name) {
    NEED_CONTEXT;
    if (!module || !module->ptx) return INVALID_HANDLE;
    lock();
    const Status status = module_function(module, name, function);
    unlock();
    return status;
}
API Status cuModuleGetGlobal_v2(Pointer *at, u64 *bytes, Module *module, const char *name) {
    for (ModuleGlobal *g = module->globals; g; g = g->next) // of those functions that were asked for
        if (!strcmp(g->name, name)) return at ? *at = g->at : 0, bytes ? *bytes = g->bytes : 0, OK;
    return NOT_FOUND;
}
API Status cuFuncSetAttribute(Function *f, int attribute, int value) {
    if (!f) return INVALID_HANDLE;
    if (attribute != 8) return attribute == 9 ? OK : INVALID_VALUE;
    if (value < 0 || f->info->shared + (u32)value > 227 * 1024) return INVALID_VALUE;
    return f->dynamic_allowed = (u32)value, OK;
}
API Status cuFuncGetAttribute(int *value, int attribute, Function *f) {
    if (!f) return INVALID_HANDLE;
    const Info *i = f->info;
    const int values[] = {(int)i->max_threads, (int)i->shared, 0, (int)i->local, 32, 80, 80, 0, (int)f->dynamic_allowed, 0};
    return attribute < 0 || attribute > 9 ? INVALID_VALUE : (*value = values[attribute], OK);
}
API Status cuFuncSetCacheConfig(Function *f, int config) { return (void)config, f ? OK : INVALID_HANDLE; }
API Status cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, Function *f, int threads, u64 dynamic, unsigned flags) {
    (void)flags;
    if (!f || threads <= 0) return INVALID_VALUE;
    const u64 shared = f->info->shared + dynamic + 1024, by_threads = 2048 / (u64)threads, by_shared = 228 * 1024 / shared;
    return *blocks = (int)(by_threads < by_shared ? by_threads : by_shared), OK;
}
API Status cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Function *f, int threads, u64 dynamic) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, f, threads, dynamic, 0);
}
API Status cuLaunchKernel(Function *f, u32 gx, u32 gy, u32 gz, u32 bx, u32 by, u32 bz, u32 dynamic, void *stream,
    void **params, void **extra) {
    NEED_CONTEXT;
    (void)stream;
    if (!f) return INVALID_HANDLE;
    if (extra) return INVALID_VALUE;
    const u32 grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    lock();
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    const Status status = launch(f, grid, block, dynamic, params);
    clock_gettime(CLOCK_MONOTONIC, &to);
    if (getenv("SAESCOPE_FAKE_GPU_TRACE"))
        fprintf(stderr, "fake GPU: %s (%u, %u, %u) × (%u, %u, %u), %u bytes shared: %.3f ms\n", f->name, gx, gy, gz, bx, by, bz, dynamic,
            (to.tv_sec - from.tv_sec) * 1e3 + (to.tv_nsec - from.tv_nsec) * 1e-6);
    unlock();
    return status;
}

// --- Errors ----------------------------------------------------------------------------------------------------------
static const struct { int code; const char *name, *text; } errors[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {301, "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
};
static Status error_text(int code, const char **out, int name) {
    *out = 0;
    for (u64 i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code) *out = name ? errors[i].name : errors[i].text;
    return *out ? OK : INVALID_VALUE;
}
API Status cuGetErrorName(int code, const char **name) { return error_text(code, name, 1); }
API Status cuGetErrorString(int code, const char **text) { return error_text(code, text, 0); }
