// Launches of the stand-in for libcuda. Threads of a block that wait for each other are fibers, others a loop; blocks
// are spread over a few threads of the host.
#include "driver.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_THREADS = 1024, WARPS = 32, BARRIERS = 16, WORKERS = 4 };
typedef struct { u32 alive, waiting, ready; } Warp; // bits of lanes; ready: may run and does not
typedef struct { u32 count, threads, waiting[WARPS]; u64 popc; } Barrier;
typedef struct {
    Thread *threads;
    void **stacks; // where each fiber was left
    void *left;    // and the worker itself
    u8 *stack_memory, *shared;
    u64 stack_bytes;
    Warp warps[WARPS];
    Barrier barriers[BARRIERS];
    u32 count, alive, last;
    Site *sites;
    u32 sites_room;
} Worker;

static struct {
    Function *f;
    u32 grid[3], block[3], shared, fibers;
    u64 blocks, next;
    u8 params[4096];
} job; // one at a time
static Worker workers[WORKERS];

// --- Failures --------------------------------------------------------------------------------------------------------
static const char *text_of(u32 site) { return job.f->info->text[site]; }
static void fail_at(Thread *t, u32 site, const char *what) {
    fprintf(stderr, "fake GPU: kernel %s, block (%u, %u, %u) of (%u, %u, %u), thread (%u, %u, %u) of (%u, %u, %u): %s\n    in `%s`\n",
        job.f->name, t->ctaid[0], t->ctaid[1], t->ctaid[2], job.grid[0], job.grid[1], job.grid[2], t->tid[0], t->tid[1], t->tid[2],
        job.block[0], job.block[1], job.block[2], what, text_of(site));
    fflush(stderr);
    abort();
}
static void find(Thread *t, u32 site, u64 at, u32 bytes) {
    char what[300];
    u64 low, size;
    if (at & (bytes - 1)) {
        snprintf(what, sizeof what, "%u bytes at %#llx: misaligned", bytes, (unsigned long long)at);
        fail_at(t, site, what);
    }
    if (unchecked()) {
        t->sites[site] = (Site){0, ~0ull};
        return;
    }
    if (!memory_find(at, bytes, &low, &size)) {
        snprintf(what, sizeof what, "%u bytes at %#llx are not in an allocation; the nearest is %#llx of %llu bytes (%lld from its start)",
            bytes, (unsigned long long)at, (unsigned long long)low, (unsigned long long)size, (long long)(at - low));
        fail_at(t, site, what);
    }
    t->sites[site] = (Site){low, size - bytes + 1};
}

// --- Fibers ----------------------------------------------------------------------------------------------------------
#if !defined __x86_64__
#error "the switch of stacks is written for x86-64"
#endif
// Keeps what a function must keep, leaves one stack and goes on where another was left.
void fake_gpu_switch(void **from, void *to);
__asm__(".text\n.type fake_gpu_switch,@function\n.hidden fake_gpu_switch\nfake_gpu_switch:\n"
        " pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
        " popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n"
        ".size fake_gpu_switch, .-fake_gpu_switch\n");

static void stuck(Worker *w) {
    fprintf(stderr, "fake GPU: kernel %s: threads wait for each other forever:\n", job.f->name);
    for (u32 i = 0, shown = 0; i < w->count; i++) {
        Thread *t = &w->threads[i];
        if (!(w->warps[t->warp].alive >> t->lane & 1) || ++shown > 40) continue;
        fprintf(stderr, "    thread (%u, %u, %u): `%s`\n", t->tid[0], t->tid[1], t->tid[2], text_of(t->meet.site));
    }
    for (u32 i = 0; i < w->count; i++)
        if (w->warps[w->threads[i].warp].alive >> w->threads[i].lane & 1) fail_at(&w->threads[i], w->threads[i].meet.site, "stuck");
}
// Goes on with a thread that may run, first of the warp that ran last; back to the worker when there are none left.
static void go_on(Worker *w, void **from, u32 self) {
    if (!w->alive) fake_gpu_switch(from, w->left);
    for (u32 n = 0, warps = (w->count + 31) / 32, i = w->last; n < warps; n++, i = i + 1 < warps ? i + 1 : 0) {
        Warp *warp = &w->warps[i];
        if (!warp->ready) continue;
        const u32 lane = __builtin_ctz(warp->ready);
        warp->ready &= warp->ready - 1;
        w->last = i;
        if (32 * i + lane != self) fake_gpu_switch(from, w->stacks[32 * i + lane]);
        return;
    }
    stuck(w);
}
static void wait_here(Thread *t) {
    Worker *w = t->worker;
    const u32 self = 32 * t->warp + t->lane;
    go_on(w, &w->stacks[self], self);
}
static void yield(Thread *t) {
    ((Worker *)t->worker)->warps[t->warp].ready |= 1u << t->lane;
    wait_here(t);
}

void fake_gpu_resolve(Thread *warp, u32 lanes);
// Whether all that a waiting thread waits for have come; if so, they do it and may all run but `self`.
static int complete(Worker *w, u32 number, u32 lane, u32 self) {
    Warp *warp = &w->warps[number];
    Thread *threads = &w->threads[32 * number];
    const u32 mask = threads[lane].meet.mask, need = mask & warp->alive;
    if ((warp->waiting & need) != need) return 0;
    for (u32 rest = need; rest; rest &= rest - 1) {
        const Thread *other = &threads[__builtin_ctz(rest)];
        if (other->meet.mask != mask) return 0;
        if (other->meet.kind != threads[lane].meet.kind)
            fail_at(&threads[lane], threads[lane].meet.site, "threads of a warp meet in different instructions");
    }
    fake_gpu_resolve(threads, need);
    warp->waiting &= ~need;
    warp->ready |= need & ~self;
    return 1;
}
static void meet(Thread *t) {
    Worker *w = t->worker;
    const u32 bit = 1u << t->lane;
    if (!(t->meet.mask & bit)) fail_at(t, t->meet.site, "the thread is not in its own mask");
    w->warps[t->warp].waiting |= bit;
    if (!complete(w, t->warp, t->lane, bit)) wait_here(t);
}

static void release(Worker *w, Barrier *b) {
    for (u32 i = 0; i < WARPS; i++) {
        for (u32 rest = b->waiting[i]; rest; rest &= rest - 1) {
            Meet *m = &w->threads[32 * i + __builtin_ctz(rest)].meet;
            m->out[0] = m->kind == BARRIER_POPC ? b->popc : m->kind == BARRIER_AND ? b->popc == b->count : b->popc != 0;
        }
        w->warps[i].ready |= b->waiting[i];
        b->waiting[i] = 0;
    }
    b->count = 0, b->popc = 0;
}
static void barrier(Thread *t, u32 site, int kind, u32 id, u32 threads) {
    Worker *w = t->worker;
    if (id >= BARRIERS || threads % 32) fail_at(t, site, "no such barrier");
    Barrier *b = &w->barriers[id];
    t->meet.kind = kind, t->meet.site = site;
    b->threads = threads;
    b->count++;
    b->popc += kind >= BARRIER_POPC && t->meet.in[0];
    if (kind != BARRIER_ARRIVE) b->waiting[t->warp] |= 1u << t->lane;
    if (b->count >= (threads ? threads : w->alive)) release(w, b);
    if (kind != BARRIER_ARRIVE) wait_here(t);
}

// A fiber's first function gets its thread in a register that switching stacks keeps.
void fake_gpu_start(void);
__asm__(".type fake_gpu_start,@function\n.hidden fake_gpu_start\nfake_gpu_start:\n movq %r12, %rdi\n call fake_gpu_fiber\n ud2\n"
        ".size fake_gpu_start, .-fake_gpu_start\n");
__attribute__((used, visibility("hidden"))) void fake_gpu_fiber(Thread *t) {
    Worker *w = t->worker;
    job.f->run(t);
    Warp *warp = &w->warps[t->warp];
    warp->alive &= ~(1u << t->lane);
    w->alive--;
    for (u32 lane = 0; lane < 32; lane++) // those that waited for this one alone
        if (warp->waiting >> lane & 1) complete(w, t->warp, lane, 0);
    for (u32 i = 0; i < BARRIERS; i++) {
        Barrier *b = &w->barriers[i];
        if (b->count && !b->threads && b->count >= w->alive) release(w, b);
    }
    go_on(w, &w->stacks[32 * t->warp + t->lane], ~0u);
    __builtin_unreachable();
}

static void prepare_stacks(Worker *w, u64 bytes) {
    if (bytes <= w->stack_bytes) return;
    if (w->stack_memory) munmap(w->stack_memory, MAX_THREADS * w->stack_bytes);
    w->stack_bytes = bytes;
    w->stack_memory = mmap(0, MAX_THREADS * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w->stack_memory == MAP_FAILED) abort();
    for (u32 i = 0; i < MAX_THREADS; i++) mprotect(w->stack_memory + i * bytes, 4096, PROT_NONE); // too deep: not into the next
}
static void start_fiber(Worker *w, u32 i) {
    Thread *t = &w->threads[i];
    u8 *top = w->stack_memory + (i + 1) * w->stack_bytes;
    t->stack_low = (u64)(top - w->stack_bytes), t->stack_high = (u64)top;
    // Not all at the same place of a page, which the processor's cache would not like. Six registers and where to go on,
    // so that the stack is aligned there.
    void **at = (void **)(top - 64 - i % 61 * 64) - 7;
    memset(at, 0, 6 * sizeof *at);
    at[3] = t; // r12
    at[6] = (void *)fake_gpu_start;
    w->stacks[i] = at;
}

// --- Blocks ----------------------------------------------------------------------------------------------------------
static void prepare(Worker *w) {
    static const Calls calls = {find, fail_at, meet, barrier, yield};
    const Info *info = job.f->info;
    if (!w->threads) {
        w->threads = calloc(MAX_THREADS, sizeof *w->threads);
        w->stacks = calloc(MAX_THREADS, sizeof *w->stacks);
        w->shared = aligned_alloc(1024, 256 * 1024);
    }
    if (w->sites_room < info->sites) w->sites = realloc(w->sites, (w->sites_room = info->sites) * sizeof(Site));
    memset(w->sites, 0, info->sites * sizeof(Site)); // a launch may find other allocations than the last
    w->count = job.fibers ? job.block[0] * job.block[1] * job.block[2] : 1;
    if (job.fibers) prepare_stacks(w, (64 * 1024 + info->local + 8191) / 4096 * 4096);
    for (u32 i = 0; i < w->count; i++) {
        Thread *t = &w->threads[i];
        memcpy(t->ntid, job.block, sizeof t->ntid);
        memcpy(t->nctaid, job.grid, sizeof t->nctaid);
        t->tid[0] = i % job.block[0], t->tid[1] = i / job.block[0] % job.block[1], t->tid[2] = i / job.block[0] / job.block[1];
        t->lane = i % 32, t->warp = i / 32, t->shared_size = job.shared, t->fibers = job.fibers;
        t->shared = w->shared, t->params = job.params, t->sites = w->sites, t->calls = &calls, t->worker = w;
    }
}
static void run_block(Worker *w, u64 number) {
    const u32 block[3] = {number % job.grid[0], number / job.grid[0] % job.grid[1], number / job.grid[0] / job.grid[1]};
    if (job.shared) memset(w->shared, 0xff, job.shared); // not a number, as new memory
    for (u32 i = 0; i < w->count; i++) memcpy(w->threads[i].ctaid, block, sizeof block);
    if (!job.fibers) {
        Thread *t = w->threads;
        t->stack_high = (u64)__builtin_frame_address(0), t->stack_low = t->stack_high - (1 << 20);
        for (u32 i = 0, z = 0; z < job.block[2]; z++)
            for (u32 y = 0; y < job.block[1]; y++)
                for (u32 x = 0; x < job.block[0]; x++, i++) {
                    t->tid[0] = x, t->tid[1] = y, t->tid[2] = z, t->lane = i % 32, t->warp = i / 32;
                    job.f->run(t);
                }
        return;
    }
    memset(w->barriers, 0, sizeof w->barriers);
    memset(w->warps, 0, sizeof w->warps);
    w->alive = w->count, w->last = 0;
    for (u32 i = 0; i < w->count; i++) {
        start_fiber(w, i);
        w->warps[i / 32].alive |= 1u << i % 32;
        w->warps[i / 32].ready |= 1u << i % 32;
    }
    go_on(w, &w->left, ~0u);
}
static void run_blocks(Worker *w) {
    prepare(w);
    for (u64 n; (n = __atomic_fetch_add(&job.next, 1, __ATOMIC_RELAXED)) < job.blocks;) run_block(w, n);
}

// --- Workers: the caller is the first, others are started when there is enough to do ---------------------------------
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
static u64 round_number;
static u32 running, started;
static void *worker_main(void *w) {
    u64 seen = 0;
    for (;;) {
        pthread_mutex_lock(&gate);
        while (round_number == seen) pthread_cond_wait(&work, &gate);
        seen = round_number;
        pthread_mutex_unlock(&gate);
        run_blocks(w);
        pthread_mutex_lock(&gate);
        if (--running == 0) pthread_cond_signal(&done);
        pthread_mutex_unlock(&gate);
    }
    return 0;
}
static u32 helpers(void) {
    const char *asked = getenv("SAESCOPE_FAKE_GPU_THREADS");
    const long n = asked ? atol(asked) : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 0 : n > WORKERS ? WORKERS - 1 : (u32)n - 1;
}
static void run_job(void) {
    const u64 threads = job.blocks * job.block[0] * job.block[1] * job.block[2];
    const u32 others = job.blocks > 1 && threads > 4096 ? helpers() : 0;
    if (others) {
        pthread_mutex_lock(&gate);
        for (pthread_t id; started < others; started++)
            if (pthread_create(&id, 0, worker_main, &workers[1 + started])) break;
            else pthread_detach(id);
        running = started, round_number++;
        pthread_cond_broadcast(&work);
        pthread_mutex_unlock(&gate);
    }
    run_blocks(&workers[0]);
    if (others) {
        pthread_mutex_lock(&gate);
        while (running) pthread_cond_wait(&done, &gate);
        pthread_mutex_unlock(&gate);
    }
}

int launch(Function *f, const u32 grid[3], const u32 block[3], u32 dynamic, void **params) {
    const Info *info = f->info;
    const u64 threads = (u64)block[0] * block[1] * block[2];
    const char *wrong = !grid[0] || !grid[1] || !grid[2] || !threads ? "nothing to run"
        : threads > MAX_THREADS || block[0] > 1024 || block[1] > 1024 || block[2] > 64 ? "too many threads in a block"
        : threads > info->max_threads ? "more threads in a block than the kernel was compiled for"
        : grid[0] > 0x7fffffff || grid[1] > 65535 || grid[2] > 65535 ? "too many blocks"
        : info->shared + dynamic > 227 * 1024 ? "too much shared memory"
        : info->shared + dynamic > 48 * 1024 && dynamic > f->dynamic_allowed ? "more shared memory than was asked for"
        : info->params && !params ? "no parameters" : 0;
    if (wrong) {
        fprintf(stderr, "fake GPU: launch of %s, blocks (%u, %u, %u), threads (%u, %u, %u), %u bytes of shared memory: %s\n", f->name,
            grid[0], grid[1], grid[2], block[0], block[1], block[2], dynamic, wrong);
        return INVALID_VALUE;
    }
    job.f = f, job.shared = info->shared + dynamic, job.fibers = info->fibers, job.next = 0;
    memcpy(job.grid, grid, sizeof job.grid), memcpy(job.block, block, sizeof job.block);
    job.blocks = (u64)grid[0] * grid[1] * grid[2];
    for (u32 i = 0; i < info->params; i++) memcpy(job.params + info->offsets[i], params[i], info->sizes[i]);
    for (u32 i = 0; i < info->globals; i++) *info->global[i].at = f->globals[i]; // the code is shared by equal modules
    run_job();
    return OK;
}
