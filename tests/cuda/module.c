// Modules of the stand-in for libcuda: a function is translated to C and compiled when it is first asked for, and kept
// in a folder by a hash of all that it is made from, so that this happens once.
#include "driver.h"
#include <dlfcn.h>
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
#ifndef HERE
#define HERE "."
#endif

void hash_bytes(u64 hash[2], const void *bytes, u64 n) { // FNV-1a, two of them
    for (u64 i = 0; i < n; i++) {
        hash[0] = (hash[0] ^ ((const u8 *)bytes)[i]) * 0x100000001b3;
        hash[1] = (hash[1] + ((const u8 *)bytes)[i] + 1) * 0x9e3779b97f4a7c15, hash[1] ^= hash[1] >> 29;
    }
}
static void hash_file(u64 hash[2], const char *path) {
    char buffer[65536];
    FILE *f = fopen(path, "rb");
    if (!f) fprintf(stderr, "fake GPU: %s: %s\n", path, strerror(errno));
    for (size_t n; f && (n = fread(buffer, 1, sizeof buffer, f)) > 0;) hash_bytes(hash, buffer, n);
    if (f) fclose(f);
}
static const u64 *translator_hash(void) {
    static u64 hash[2];
    if (!hash[0]) {
        hash_file(hash, HERE "/ptx_to_c.py");
        hash_file(hash, HERE "/ptx_instructions.py");
        hash_file(hash, HERE "/ptx_memory.py");
        hash_file(hash, HERE "/kernel.h");
    }
    return hash;
}

static const char *cache(void) {
    static char folder[3000];
    if (*folder) return folder;
    const char *own = getenv("SAESCOPE_FAKE_GPU_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (own && *own) snprintf(folder, sizeof folder, "%s", own);
    else if (xdg && *xdg) snprintf(folder, sizeof folder, "%s/saescope-fake-gpu", xdg);
    else snprintf(folder, sizeof folder, "%s/.cache/saescope-fake-gpu", home ? home : "/tmp");
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(folder, 0777);
        *slash = '/';
    }
    mkdir(folder, 0777);
    return folder;
}

static int translate(const Module *module, const char *name, const char *so) {
    char ptx[4000];
    snprintf(ptx, sizeof ptx, "%s/%016llx.%d.ptx", cache(), (unsigned long long)module->hash[0], (int)getpid());
    FILE *f = fopen(ptx, "wb");
    if (!f || fwrite(module->ptx, 1, module->length, f) != module->length || fclose(f)) {
        fprintf(stderr, "fake GPU: %s: %s\n", ptx, strerror(errno));
        return INVALID_PTX;
    }
    char *const arguments[] = {"python3", HERE "/ptx_to_c.py", ptx, (char *)name, (char *)so, 0};
    pid_t child;
    int status = -1;
    if (posix_spawnp(&child, "python3", 0, 0, arguments, environ) == 0)
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    unlink(ptx);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return OK;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 3) return NOT_FOUND;
    fprintf(stderr, "fake GPU: kernel %s could not be translated\n", name);
    return INVALID_PTX;
}

// The variables of a module are there once, whatever functions use them.
static int place(Module *module, const Global *g, u8 **at) {
    ModuleGlobal *have = module->globals;
    while (have && strcmp(have->name, g->name)) have = have->next;
    if (!have) {
        have = calloc(1, sizeof *have);
        snprintf(have->name, sizeof have->name, "%s", g->name);
        have->bytes = g->bytes;
        const int status = memory_alloc(&have->at, g->bytes);
        if (status) return status;
        memcpy((void *)have->at, g->initial, g->bytes);
        have->next = module->globals, module->globals = have;
    }
    *at = (u8 *)have->at;
    return OK;
}

int module_function(Module *module, const char *name, Function **function) {
    for (Function *f = module->functions; f; f = f->next)
        if (!strcmp(f->name, name)) {
            *function = f;
            return OK;
        }
    if (strlen(name) >= sizeof(*function)->name) return NOT_FOUND;
    u64 hash[2] = {module->hash[0] ^ translator_hash()[0], module->hash[1] + translator_hash()[1]};
    hash_bytes(hash, name, strlen(name) + 1);
    char so[3600];
    snprintf(so, sizeof so, "%s/%016llx%016llx.so", cache(), (unsigned long long)hash[0], (unsigned long long)hash[1]);
    if (access(so, R_OK)) {
        const int status = translate(module, name, so);
        if (status) return status;
    }
    void *lib = dlopen(so, RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        fprintf(stderr, "fake GPU: %s\n", dlerror());
        return INVALID_PTX;
    }
    Function *f = calloc(1, sizeof *f);
    snprintf(f->name, sizeof f->name, "%s", name);
    f->module = module, f->run = (void (*)(Thread *))dlsym(lib, "ptx_kernel"), f->info = dlsym(lib, "ptx_info");
    if (!f->run || !f->info) abort();
    f->globals = calloc(f->info->globals + 1, sizeof *f->globals);
    for (u32 i = 0; i < f->info->globals; i++) {
        const int status = place(module, &f->info->global[i], &f->globals[i]);
        if (status) return status;
    }
    f->next = module->functions, module->functions = f;
    *function = f;
    return OK;
}
