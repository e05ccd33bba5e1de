// What the files of the stand-in for libcuda share: memory (memory.c), kernels and launches (launch.c), the API (driver.c).
#pragma once
#include "kernel.h"

typedef struct Module Module;
typedef struct Function Function;
struct Function {
    Module *module;
    char name[256];
    void (*run)(Thread *);
    const Info *info;
    u8 **globals;        // where the module's variables are that it uses
    u32 dynamic_allowed; // bytes of dynamic shared memory that launches may ask for
    Function *next;
};
typedef struct ModuleGlobal { char name[256]; u64 at, bytes; struct ModuleGlobal *next; } ModuleGlobal;
struct Module {
    char *ptx;
    u64 length, hash[2];
    Function *functions;
    ModuleGlobal *globals;
};

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201, INVALID_PTX = 218, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_SUPPORTED = 801 };

void lock(void); // around all bookkeeping and whole launches
void unlock(void);
int memory_alloc(u64 *at, u64 bytes);
int memory_free(u64 at);
u64 memory_total(void);
u64 memory_used(void);
int memory_find(u64 at, u64 bytes, u64 *low, u64 *size); // 1: the allocation that holds it; else the nearest, and 0
int fake_gpu_check(u64 at, u64 bytes, const char *what);  // 0, or INVALID_VALUE after saying what is wrong; takes the lock
int unchecked(void);

int module_function(Module *module, const char *name, Function **function);
int launch(Function *f, const u32 grid[3], const u32 block[3], u32 dynamic, void **params);
void hash_bytes(u64 hash[2], const void *bytes, u64 n);
