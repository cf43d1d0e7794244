/* One fiber per CUDA thread. A fiber that waits keeps its stack; one that is through goes on with
 * the next thread that has not begun, so a kernel without barriers needs a single stack.
 *
 * This file is compiled without ThreadSanitizer: what it reads and writes is the hardware's part,
 * and the only order it tells TSan of is that of barriers. */
#include "tests/cuda_on_cpu/emulator.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "tests/cuda_on_cpu/sanitizers.h"

namespace emu
{

Place place;

namespace
{

enum { N_WARPS = MAX_THREADS / WARP, PAGE = 4096 };
enum { MAX_COPIES = 256, MAX_GROUPS = 64, MAX_SHARED = 64 }; /* of a thread, of a block */
const size_t STACK_BYTES = 256 * 1024, SLAB_BYTES = 256 * 1024;

enum State : uint8_t { NOT_BEGUN, READY, AT_BARRIER, AT_WARP, DONE };
enum Order { LOWEST_FIRST, HIGHEST_FIRST, RANDOM, ROUND_ROBIN };

struct Thread {
    State state;
    Site site;         /* where it waits */
    void *sp;          /* while it waits */
    char *stack;       /* its lowest byte; while it waits */
    void *asan_frames; /* while it waits */
    void *tsan;        /* TSan's name for it */
    std::vector<Copy> copies;
    size_t n_copied;
    std::vector<size_t> groups; /* copies up to the end of each */
};

struct Warp {
    int n_arrived;
    Site site;
    unsigned generation;
    Words lanes[2][WARP]; /* two: lanes still read the last operation's */
};

struct SharedBlock {
    const void *key;
    char *memory;
    size_t n_bytes;
};

struct Grid {
    LaunchShape shape;
    void (*thread_body)(const void *);
    const void *arg;
};

/* Addresses that stand for what barriers of the block and of its warps order. */
struct Tags {
    char block[2][16], warp[N_WARPS][2][16];
};

struct Emulator {
    Order order;
    uint32_t random = 1;
    Grid grid;
    int n_threads, n_live, current;
    int n_at_barrier, barrier_line;
    unsigned barrier_generation;
    Thread thread[MAX_THREADS];
    Warp warp[N_WARPS];
    uint32_t ready[N_WARPS]; /* by lane: may run, or begin */
    uint32_t ready_warps;    /* by warp: ready != 0 */
    std::vector<char *> idle_stacks;
    char *stacks; /* MAX_THREADS of them; made at the first launch */
    int n_stacks;
    void *host_sp, *host_asan_frames, *host_tsan;
    const void *host_bottom;
    size_t host_bytes;
    std::vector<SharedBlock> shared;

    /* TSan only */
    char *slab; /* all shared memory of a block */
    size_t slab_used;
    Tags *tags; /* this block's: blocks are not ordered among themselves */
    std::vector<Tags *> old_tags;
    std::vector<void *> dead; /* fibers; TSan would reuse their names within a grid */
    char end_tag[16];
};

Emulator *instance()
{
    static Emulator *emulator;
    if (!emulator)
        emulator = new Emulator();
    return emulator;
}

Emulator *const E = instance();

/* ---- which thread runs next ------------------------------------------------------------------ */

void set_ready(int t)
{
    E->ready[t / WARP] |= 1u << t % WARP;
    E->ready_warps |= 1u << t / WARP;
}

void clear_ready(int t)
{
    E->ready[t / WARP] &= ~(1u << t % WARP);
    if (!E->ready[t / WARP])
        E->ready_warps &= ~(1u << t / WARP);
}

int lowest_ready()
{
    int w = __builtin_ctz(E->ready_warps);
    return w * WARP + __builtin_ctz(E->ready[w]);
}

int highest_ready()
{
    int w = 31 - __builtin_clz(E->ready_warps);
    return w * WARP + 31 - __builtin_clz(E->ready[w]);
}

/* The first from t on, around the end. */
int ready_from(int t)
{
    int w = t / WARP;
    uint32_t lanes = E->ready[w] >> t % WARP << t % WARP;
    if (lanes)
        return w * WARP + __builtin_ctz(lanes);
    uint32_t warps = w == N_WARPS - 1 ? 0 : E->ready_warps >> (w + 1) << (w + 1);
    if (!warps)
        return lowest_ready();
    w = __builtin_ctz(warps);
    return w * WARP + __builtin_ctz(E->ready[w]);
}

/* -1: none can run. */
int next_thread()
{
    if (!E->ready_warps)
        return -1;
    switch (E->order) {
    case LOWEST_FIRST:
        return lowest_ready();
    case HIGHEST_FIRST:
        return highest_ready();
    case RANDOM:
        E->random = E->random * 1664525u + 1013904223u;
        return ready_from((int)((E->random >> 8) % (unsigned)E->n_threads));
    case ROUND_ROBIN:
        return ready_from((E->current + 1) % E->n_threads);
    }
    return -1;
}

/* ---- switching stacks ------------------------------------------------------------------------ */

#if !defined(__x86_64__)
#error "fibers need a switch of stacks for this processor: some 20 lines of assembler"
#endif
extern "C" void emu_switch_stacks(void **save_sp, void *sp);
asm(R"(.text
.globl emu_switch_stacks
.type emu_switch_stacks,@function
emu_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch_stacks, .-emu_switch_stacks
)");

void run_threads();

/* A stack that starts in run_threads when switched to; returns its sp. */
void *prepare(char *stack)
{
    void **sp = (void **)(stack + STACK_BYTES);
    *--sp = nullptr; /* where a return address would be */
    *--sp = (void *)run_threads;
    for (int i = 0; i < 6; i++)
        *--sp = nullptr;
    return sp;
}

char *stack_at(int i)
{
    return E->stacks + (size_t)i * STACK_BYTES;
}

/* Under TSan each thread has its own. */
char *take_stack(int t)
{
    if (EMU_TSAN)
        return stack_at(t);
    if (E->idle_stacks.empty())
        return stack_at(E->n_stacks++);
    char *stack = E->idle_stacks.back();
    E->idle_stacks.pop_back();
    return stack;
}

/* Save the running stack's sp and frames, and go on at the other. Where the running stack is done
 * with, frames is NULL. */
EMU_ON_TWO_STACKS void switch_to(void **sp_of_this, void **frames, void *sp, void *tsan,
                                 const void *bottom, size_t n_bytes)
{
#if EMU_ASAN
    __sanitizer_start_switch_fiber(frames, bottom, n_bytes);
#endif
#if EMU_TSAN
    __tsan_switch_to_fiber(tsan, 1 /* orders nothing */);
#endif
    emu_switch_stacks(sp_of_this, sp);
#if EMU_ASAN
    __sanitizer_finish_switch_fiber(frames ? *frames : nullptr, nullptr, nullptr);
#endif
    (void)frames, (void)tsan, (void)bottom, (void)n_bytes;
}

/* The numbers of the thread that runs from now on. */
void become(int t)
{
    unsigned i = (unsigned)t;
    E->current = t;
    place.thread = {i, 0, 0};
}

/* To thread t from the stack whose sp and frames are saved. */
EMU_ON_TWO_STACKS void go_to(int t, void **sp_of_this, void **frames)
{
    Thread &to = E->thread[t];
    if (to.state == NOT_BEGUN) {
        to.stack = take_stack(t);
        to.sp = prepare(to.stack);
    }
    become(t);
    switch_to(sp_of_this, frames, to.sp, to.tsan, to.stack, STACK_BYTES);
}

/* The running thread waits; others run until it may go on. */
EMU_ON_TWO_STACKS void wait_turn()
{
    int self = E->current, t = next_thread();
    if (t < 0)
        fail("deadlock: no thread can run");
    if (t == self)
        return;
    Thread &me = E->thread[self];
    go_to(t, &me.sp, &me.asan_frames);
}

/* ---- the life of a thread -------------------------------------------------------------------- */

void release_block()
{
    for (int w = 0; w < E->n_threads / WARP; w++)
        E->ready[w] = ~0u;
    E->ready_warps = ~0u >> (N_WARPS - E->n_threads / WARP);
    E->n_at_barrier = 0;
    E->barrier_generation++;
}

void finish_thread()
{
    Thread &me = E->thread[E->current];
    if (me.n_copied < me.copies.size())
        fail("thread %d ends with a cp.async that was not waited for", E->current);
    if (E->warp[E->current / WARP].n_arrived > 0)
        fail("thread %d ends while its warp waits for it", E->current);
    if (E->n_at_barrier > 0)
        fail("thread %d ends while others wait in __syncthreads", E->current);
#if EMU_TSAN
    __tsan_release(E->end_tag);
#endif
    me.state = DONE;
    clear_ready(E->current);
    E->n_live--;
}

/* What runs on a fiber's stack: the thread it was made for, then others that have not begun. Does
 * not return. */
EMU_ON_TWO_STACKS void run_threads()
{
    void *no_sp;
    char *stack = E->thread[E->current].stack;
#if EMU_ASAN
    const void *from;
    size_t n_bytes;
    __sanitizer_finish_switch_fiber(nullptr, &from, &n_bytes);
    if (!E->host_bottom)
        E->host_bottom = from, E->host_bytes = n_bytes;
#endif
    for (;;) {
        E->thread[E->current].state = READY;
        E->grid.thread_body(E->grid.arg);
        finish_thread();
        int t = next_thread();
        if (t < 0 && E->n_live > 0)
            fail("deadlock: no thread can run");
        bool fresh = t >= 0 && E->thread[t].state == NOT_BEGUN;
        if (fresh && !EMU_TSAN) {
            E->thread[t].stack = stack;
            become(t);
            continue;
        }
        if (!EMU_TSAN)
            E->idle_stacks.push_back(stack);
        if (t >= 0)
            go_to(t, &no_sp, nullptr);
        else
            switch_to(&no_sp, nullptr, E->host_sp, E->host_tsan, E->host_bottom, E->host_bytes);
    }
}

/* ---- blocks ------------------------------------------------------------------------------------
 */

char *map_bytes(char *at, size_t n_bytes)
{
    int fixed = at ? MAP_FIXED : 0;
    void *memory = mmap(at, n_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
    if (memory == MAP_FAILED)
        fail("no memory");
    return (char *)memory;
}

/* Nothing may be allocated on a fiber: TSan would take it for the kernel's doing. */
void reserve_all()
{
    for (Thread &thread : E->thread) {
        thread.copies.reserve(MAX_COPIES);
        thread.groups.reserve(MAX_GROUPS);
    }
    E->shared.reserve(MAX_SHARED);
    E->idle_stacks.reserve(MAX_THREADS);
}

/* The lowest page of each stack cannot be touched, so that too deep a stack is seen. */
void make_stacks()
{
    E->stacks = map_bytes(nullptr, MAX_THREADS * STACK_BYTES);
    for (int i = 0; i < MAX_THREADS && !EMU_TSAN; i++)
        if (mprotect(stack_at(i), PAGE, PROT_NONE) != 0)
            fail("no memory");
}

/* More than 48 KiB, declared and asked for together, must be allowed first; allow_shared does that
 * where what is asked for is as much alone. */
void check_shared_bytes(size_t n_bytes)
{
    const size_t usual = 48 << 10, asked = E->grid.shape.shared_bytes;
    int most = 0;
    for (const SharedBlock &block : E->shared)
        n_bytes += (block.n_bytes + 15) / 16 * 16;
    if (n_bytes <= usual)
        return;
    if (asked > usual)
        (void)cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
    if (n_bytes > std::max(usual, (size_t)most))
        fail("%zu bytes of shared memory, %zu of them asked for: more than %zu", n_bytes, asked,
             std::max(usual, (size_t)most));
}

char *new_shared(const void *key, size_t n_bytes)
{
    void *memory = nullptr;
    check_shared_bytes(n_bytes);
#if EMU_TSAN
    memory = E->slab + E->slab_used;
    E->slab_used += (n_bytes + 127) / 128 * 128;
    if (E->slab_used > SLAB_BYTES)
        fail("more than %zu bytes of shared memory", SLAB_BYTES);
    for (size_t i = 0; i < n_bytes; i++) /* memset would look like this thread's write */
        ((volatile char *)memory)[i] = (char)0xff;
#else
    if (posix_memalign(&memory, 128, n_bytes) != 0)
        fail("no memory");
    memset(memory, 0xff, n_bytes);
#endif
    if (E->shared.size() == MAX_SHARED)
        fail("more than %d shared arrays", MAX_SHARED);
    E->shared.push_back({key, (char *)memory, n_bytes});
    return (char *)memory;
}

#if EMU_TSAN
/* What the last block did with this memory is no race with the next one. */
void forget_block()
{
    E->slab = map_bytes(E->slab, SLAB_BYTES);
    E->slab_used = 0;
    map_bytes(E->stacks, (size_t)E->n_threads * STACK_BYTES);
    E->tags = new Tags;
    E->old_tags.push_back(E->tags);
}

void bury()
{
    for (void *fiber : E->dead)
        __tsan_destroy_fiber(fiber);
    E->dead.clear();
    for (Tags *tags : E->old_tags)
        delete tags;
    E->old_tags.clear();
}
#endif

void begin_block(unsigned x, unsigned y, unsigned z)
{
    int n = E->n_threads;
    place.block = {x, y, z};
    E->n_live = n;
    E->n_at_barrier = 0;
#if EMU_TSAN
    forget_block();
#endif
    if (E->grid.shape.shared_bytes > 0)
        new_shared(nullptr, E->grid.shape.shared_bytes);
    for (int t = 0; t < n; t++) {
        Thread &thread = E->thread[t];
        thread.state = NOT_BEGUN;
        thread.copies.clear();
        thread.groups.clear();
        thread.n_copied = 0;
#if EMU_TSAN /* made here: what makes a thread is ordered before it */
        thread.tsan = __tsan_create_fiber(0);
#endif
        set_ready(t);
    }
}

void end_block()
{
    for (SharedBlock &block : E->shared)
        if (!EMU_TSAN)
            free(block.memory);
    E->shared.clear();
#if EMU_TSAN
    for (int t = 0; t < E->n_threads; t++)
        E->dead.push_back(E->thread[t].tsan);
    if (E->dead.size() > 6000)
        bury();
#endif
}

EMU_ON_TWO_STACKS void run_block(unsigned x, unsigned y, unsigned z)
{
    begin_block(x, y, z);
    E->current = E->n_threads - 1; /* round robin goes on with 0 */
    go_to(next_thread(), &E->host_sp, &E->host_asan_frames);
    end_block();
}

/* ---- reports -----------------------------------------------------------------------------------
 */

bool same_site(Site a, Site b)
{
    return a.line == b.line && (a.name == b.name || strcmp(a.name, b.name) == 0);
}

bool waits(const Thread &thread)
{
    return thread.state == AT_BARRIER || thread.state == AT_WARP;
}

/* Where the lanes of a warp wait, one line for each place. */
void report_warp(int w)
{
    uint32_t told = 0;
    for (int l = 0; l < WARP; l++) {
        const Thread &first = E->thread[w * WARP + l];
        if (!waits(first) || told >> l & 1)
            continue;
        uint32_t lanes = 0;
        for (int i = l; i < WARP; i++) {
            const Thread &thread = E->thread[w * WARP + i];
            if (waits(thread) && same_site(thread.site, first.site))
                lanes |= 1u << i;
        }
        told |= lanes;
        fprintf(stderr, "  warp %d: lanes %08x wait in %s at line %d\n", w, lanes, first.site.name,
                first.site.line);
    }
}

void need_sm80(const char *what)
{
    if (fake_compute_capability() < 80)
        fail("%s on compute capability %d", what, fake_compute_capability());
}

} // namespace

void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "cuda_on_cpu: ");
    vfprintf(stderr, format, args);
    va_end(args);
    const char *kernel = E->grid.shape.kernel;
    if (kernel) {
        fprintf(stderr, ", in %s, block (%u,%u,%u), thread %d\n", kernel, place.block.x,
                place.block.y, place.block.z, E->current);
        for (int w = 0; w < E->n_threads / WARP; w++)
            report_warp(w);
    } else {
        fprintf(stderr, "\n");
    }
    abort();
}

/* ---- what kernels call -------------------------------------------------------------------------
 */

int lane()
{
    return E->current % WARP;
}

void sync_block(int line)
{
    Thread &me = E->thread[E->current];
    me.site = {"__syncthreads", line};
    if (E->n_live < E->n_threads)
        fail("__syncthreads at line %d after other threads have ended", line);
    if (E->n_at_barrier > 0 && E->barrier_line != line)
        fail("__syncthreads at line %d, others wait at line %d", line, E->barrier_line);
    E->barrier_line = line;
#if EMU_TSAN
    char *tag = E->tags->block[E->barrier_generation % 2];
    __tsan_release(tag);
#endif
    me.state = AT_BARRIER;
    clear_ready(E->current);
    if (++E->n_at_barrier == E->n_threads)
        release_block();
    wait_turn();
    me.state = READY;
#if EMU_TSAN
    __tsan_acquire(tag);
#endif
}

/* Wait until the 32nd lane has come. */
static void meet(Warp &warp, Words *lanes, WarpFunction *function)
{
    int t = E->current;
    E->thread[t].state = AT_WARP;
    clear_ready(t);
    if (++warp.n_arrived == WARP) {
        if (function)
            function(lanes);
        warp.n_arrived = 0;
        warp.generation++;
        E->ready[t / WARP] = ~0u;
        E->ready_warps |= 1u << t / WARP;
    }
    wait_turn();
    E->thread[t].state = READY;
}

static const Words *rendezvous(WarpFunction *function, const void *words, int n_words, Site site)
{
    int t = E->current;
    Warp &warp = E->warp[t / WARP];
    E->thread[t].site = site;
    if (warp.n_arrived > 0 && !same_site(warp.site, site))
        fail("%s at line %d, other lanes wait in %s at line %d", site.name, site.line,
             warp.site.name, warp.site.line);
    warp.site = site;
    Words *lanes = warp.lanes[warp.generation % 2];
    for (int i = 0; i < n_words; i++)
        lanes[t % WARP][i] = ((const uint32_t *)words)[i];
    meet(warp, lanes, function);
    return lanes;
}

const Words *exchange(const void *words, int n_words, Site site, bool ordered)
{
#if EMU_TSAN
    int w = E->current / WARP;
    char *tag = E->tags->warp[w][E->warp[w].generation % 2];
    if (ordered)
        __tsan_release(tag);
#endif
    const Words *lanes = rendezvous(nullptr, words, n_words, site);
#if EMU_TSAN
    if (ordered)
        __tsan_acquire(tag);
#endif
    (void)ordered;
    return lanes;
}

const Words *exchange_by(WarpFunction *function, const void *words, int n_words, Site site)
{
    need_sm80(site.name);
    return rendezvous(function, words, n_words, site);
}

void *shared_array(const void *key, size_t n_bytes)
{
    for (SharedBlock &block : E->shared)
        if (block.key == key)
            return block.memory;
    return new_shared(key, n_bytes);
}

void *dynamic_shared()
{
    if (E->grid.shape.shared_bytes == 0)
        fail("DYN_SHARED, but the launch asked for no bytes");
    return shared_array(nullptr, E->grid.shape.shared_bytes);
}

void check_shared(const void *p, size_t n_bytes, const char *what)
{
    need_sm80(what);
    if ((uintptr_t)p % 16 != 0)
        fail("%s: the address %p is not 16-byte aligned", what, p);
    for (SharedBlock &block : E->shared)
        if ((const char *)p >= block.memory &&
            (const char *)p + n_bytes <= block.memory + block.n_bytes)
            return;
    fail("%s: %p is not in shared memory", what, p);
}

void begin_copy(void *dst, const void *src, bool valid)
{
    check_shared(dst, 16, "cp.async");
    if (valid && (uintptr_t)src % 16 != 0)
        fail("cp.async: the address %p is not 16-byte aligned", src);
    Thread &me = E->thread[E->current];
    if (me.copies.size() == MAX_COPIES)
        fail("more than %d copies of one thread under way", MAX_COPIES);
    me.copies.push_back({dst, valid ? src : nullptr});
}

void commit_copies()
{
    Thread &me = E->thread[E->current];
    if (me.groups.size() == MAX_GROUPS)
        fail("more than %d groups of copies of one thread", MAX_GROUPS);
    me.groups.push_back(me.copies.size());
}

bool next_copy(int newest, Copy *copy)
{
    Thread &me = E->thread[E->current];
    size_t n_old = me.groups.size() > (size_t)newest ? me.groups.size() - (size_t)newest : 0;
    if (n_old > 0 && me.n_copied < me.groups[n_old - 1]) {
        *copy = me.copies[me.n_copied++];
        return true;
    }
    if (me.n_copied == me.copies.size()) {
        me.copies.clear();
        me.groups.clear();
        me.n_copied = 0;
    }
    return false;
}

/* ---- launching ---------------------------------------------------------------------------------
 */

cudaError_t check_shape(const LaunchShape &shape)
{
    const dim3 &grid = shape.grid, &block = shape.block;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
        grid.z > 65535 || block.x == 0 || block.x > MAX_THREADS)
        return cudaErrorInvalidConfiguration;
    if (block.y != 1 || block.z != 1 || block.x % WARP != 0)
        fail("%s is launched with blocks of (%u,%u,%u) threads, not a multiple of 32 by 1 by 1",
             shape.kernel, block.x, block.y, block.z);
    int most = 0;
    cudaError_t status = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
    if (status == cudaSuccess && shape.shared_bytes > (size_t)most)
        return cudaErrorInvalidValue;
    return status;
}

double fake_us(const LaunchShape &shape)
{
    double blocks = (double)shape.grid.x * shape.grid.y * shape.grid.z;
    return 1.0 + 0.01 * blocks * shape.block.x / WARP;
}

static Order read_order()
{
    const char *text = getenv("GPT_EMU_ORDER");
    if (!text || !*text)
        return LOWEST_FIRST;
    if (strlen(text) != 1 || *text < '0' || *text > '3')
        fail("GPT_EMU_ORDER = %s: 0, 1, 2 or 3", text);
    return (Order)(*text - '0');
}

static void begin_grid(const LaunchShape &shape, void (*thread_body)(const void *), const void *arg)
{
    E->order = read_order();
    E->grid = {shape, thread_body, arg};
    E->n_threads = (int)shape.block.x;
    place.grid_dim = shape.grid;
    place.block_dim = shape.block;
    for (Warp &warp : E->warp)
        warp.n_arrived = 0;
    if (!E->stacks) {
        reserve_all();
        make_stacks();
    }
#if EMU_TSAN
    E->host_tsan = __tsan_get_current_fiber();
#endif
    E->host_bottom = nullptr;
}

void run_grid(const LaunchShape &shape, void (*thread_body)(const void *), const void *arg)
{
    begin_grid(shape, thread_body, arg);
    uint64_t n_x = shape.grid.x, n_y = shape.grid.y, n = n_x * n_y * shape.grid.z;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t b = E->order == HIGHEST_FIRST ? n - 1 - i : i;
        run_block((unsigned)(b % n_x), (unsigned)(b / n_x % n_y), (unsigned)(b / (n_x * n_y)));
    }
#if EMU_TSAN
    __tsan_acquire(E->end_tag);
    bury();
#endif
    E->grid = {};
}

} // namespace emu
