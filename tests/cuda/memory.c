// The device memory of the stand-in for libcuda: the host's, with a table of what is allocated.
#include "driver.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct { u64 low, bytes; } Allocation;
static Allocation *table; // by address
static u64 count, room, used;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const u64 GAP = 256; // between allocations, so that the first bytes out of bounds are nobody's

void lock(void) { pthread_mutex_lock(&mutex); }
void unlock(void) { pthread_mutex_unlock(&mutex); }

int unchecked(void) {
    static int is = -1;
    if (is < 0) is = getenv("SAESCOPE_FAKE_GPU_UNCHECKED") != 0;
    return is;
}
u64 memory_total(void) {
    const char *bytes = getenv("SAESCOPE_FAKE_GPU_MEMORY");
    return bytes ? strtoull(bytes, 0, 0) : 16ull << 30;
}
u64 memory_used(void) { return used; }

static u64 after(u64 at) { // how many allocations begin at or before an address
    u64 low = 0, high = count;
    while (low < high) {
        const u64 middle = (low + high) / 2;
        if (table[middle].low <= at) low = middle + 1;
        else high = middle;
    }
    return low;
}

int memory_find(u64 at, u64 bytes, u64 *low, u64 *size) {
    const u64 i = after(at);
    const Allocation none = {0, 0}, before = i ? table[i - 1] : none, next = i < count ? table[i] : none;
    if (i && at - before.low < before.bytes && bytes <= before.bytes - (at - before.low)) {
        *low = before.low, *size = before.bytes;
        return 1;
    }
    const int nearest_is_next = !i || (i < count && next.low - at < at - (before.low + before.bytes));
    *low = nearest_is_next ? next.low : before.low, *size = nearest_is_next ? next.bytes : before.bytes;
    return 0;
}

int memory_alloc(u64 *at, u64 bytes) {
    if (bytes > memory_total() - used || used > memory_total()) return OUT_OF_MEMORY;
    const u64 whole = (bytes + GAP + 511) / 512 * 512;
    void *memory = aligned_alloc(512, whole);
    if (!memory) return OUT_OF_MEMORY;
    memset(memory, 0xff, whole); // not a number in each type: what was never written shows
    if (count == room) {
        room = room ? 2 * room : 1024;
        table = realloc(table, room * sizeof *table);
        if (!table) abort();
    }
    const u64 i = after((u64)memory);
    memmove(table + i + 1, table + i, (count - i) * sizeof *table);
    table[i] = (Allocation){(u64)memory, bytes};
    count++, used += bytes;
    *at = (u64)memory;
    return OK;
}

int memory_free(u64 at) {
    if (!at) return OK;
    const u64 i = after(at);
    if (!i || table[i - 1].low != at) {
        fprintf(stderr, "fake GPU: free of %#llx: no allocation begins there (freed twice?)\n", (unsigned long long)at);
        return INVALID_VALUE;
    }
    used -= table[i - 1].bytes;
    memset((void *)at, 0xff, table[i - 1].bytes < 4096 ? table[i - 1].bytes : 4096);
    free((void *)at);
    memmove(table + i - 1, table + i, (count - i) * sizeof *table);
    count--;
    return OK;
}

int fake_gpu_check(u64 at, u64 bytes, const char *what) {
    if (!bytes || unchecked()) return OK;
    lock();
    u64 low, size;
    const int found = memory_find(at, bytes, &low, &size);
    unlock();
    if (found) return OK;
    fprintf(stderr, "fake GPU: %s: %llu bytes at %#llx are not in an allocation; the nearest is %#llx of %llu bytes\n", what,
        (unsigned long long)bytes, (unsigned long long)at, (unsigned long long)low, (unsigned long long)size);
    return INVALID_VALUE;
}
