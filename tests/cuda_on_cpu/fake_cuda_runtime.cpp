/* The fake CUDA runtime: devices, memory, and streams that are lazy. Queued work runs when the host
 * waits for it, in the order GPT_EMU_STREAMS gives (README.md); only the order within a stream and
 * events are honoured. So work on two streams that lacks an event meets the wrong order in a test,
 * and a host buffer reused too early is seen. A copy to host memory that is not pinned may make the
 * host wait for the stream, says CUDA ("API synchronization behavior"): in the order EARLY it does.
 *
 * Device memory can be touched only while work runs: a host that does it faults. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "tests/cuda_on_cpu/emulator.h"
#include "tests/cuda_on_cpu/fake_stream.h"
#include "tests/cuda_on_cpu/sanitizers.h"

using emu::fail;

/* ---- state --------------------------------------------------------------------------------- */

/* One cudaEventRecord. */
struct Record {
    cudaStream_t stream;
    bool done, asked;
    double us; /* on the fake clock, when done */
};

struct Op {
    enum Kind { WORK, RECORD, WAIT } kind;
    FakeWork *work;
    std::unique_ptr<char[]> arg;
    double us;
    std::shared_ptr<Record> record;
};

struct CUstream_st {
    int device;
    std::deque<Op> queue;
    double us; /* fake clock: when all that ran so far was through */
    bool asked;
};

struct CUevent_st {
    std::shared_ptr<Record> record; /* the last one; null: never recorded */
    bool timing;
};

namespace
{

enum StreamOrder { LATE, EARLY, ALTERNATE, EAGER };
enum { MAX_DEVICES = 64, ALIGNMENT = 256, PAGE = 4096 };

struct Block {
    int device;
    size_t n_bytes;
    char *map; /* with a page after it that cannot be touched; NULL under ASan: from the heap */
    size_t map_bytes;
};

struct Runtime {
    int n_devices; /* visible; -1: no driver */
    int physical[MAX_DEVICES];
    int capability, n_sms;
    size_t memory_bytes;
    size_t largest_block; /* the most that one cudaMalloc gives */

    int device; /* cudaSetDevice's */
    cudaError_t error;
    std::map<uintptr_t, Block> blocks;
    std::map<uintptr_t, size_t> pinned; /* host memory: bytes from an address on */
    size_t used_bytes[MAX_DEVICES], peak_bytes[MAX_DEVICES];
    int n_running; /* depth of work under way */
    std::vector<cudaStream_t> streams;
    cudaStream_t default_stream[MAX_DEVICES];
    size_t turn;
};

long number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}

StreamOrder stream_order()
{
    const char *const names[] = {"late", "early", "alternate", "eager"};
    const char *text = getenv("GPT_EMU_STREAMS");
    if (!text || !*text)
        return LATE;
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0)
            return (StreamOrder)i;
    fail("GPT_EMU_STREAMS = %s: late, early, alternate or eager", text);
}

/* As the driver does: a list of numbers; the first that is no device ends it. */
void find_devices(Runtime *rt)
{
    int n = (int)number("GPT_EMU_DEVICES", 4);
    rt->n_devices = n < MAX_DEVICES ? n : MAX_DEVICES;
    for (int i = 0; i < rt->n_devices; i++)
        rt->physical[i] = i;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (!visible || n < 0)
        return;
    rt->n_devices = 0;
    for (char *end; rt->n_devices < MAX_DEVICES; visible = end + 1) {
        long device = strtol(visible, &end, 10);
        if (end == visible || device < 0 || device >= n)
            return;
        rt->physical[rt->n_devices++] = (int)device;
        if (*end != ',')
            return;
    }
}

Runtime *runtime()
{
    static Runtime *rt;
    if (!rt) {
        rt = new Runtime();
        find_devices(rt);
        rt->capability = (int)number("GPT_EMU_CC", 86);
        rt->n_sms = (int)number("GPT_EMU_SMS", 4);
        rt->memory_bytes = (size_t)number("GPT_EMU_MEMORY", 4L << 30);
        rt->largest_block = (size_t)number("GPT_EMU_LARGEST_BLOCK", 1L << 62);
    }
    return rt;
}

/* Every function of the API returns through this. */
cudaError_t put(cudaError_t status)
{
    if (status != cudaSuccess)
        runtime()->error = status;
    return status;
}

cudaError_t check_device(int device)
{
    Runtime *rt = runtime();
    if (rt->n_devices < 0)
        return cudaErrorInsufficientDriver;
    if (rt->n_devices == 0)
        return cudaErrorNoDevice;
    return device >= 0 && device < rt->n_devices ? cudaSuccess : cudaErrorInvalidDevice;
}

#define NEED(condition, status)                                                                    \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return put(status);                                                                    \
    } while (0)
#define NEED_DEVICE()                                                                              \
    do {                                                                                           \
        cudaError_t status_ = check_device(runtime()->device);                                     \
        NEED(status_ == cudaSuccess, status_);                                                     \
    } while (0)

/* ---- device memory ------------------------------------------------------------------------- */

/* The host must not touch device memory. AddressSanitizer is told which is closed; else a
 * protection key closes all of it at once, where the CPU has keys. (Page tables of every block
 * would take longer to change than most kernels run.) */
#if EMU_ASAN
int device_key()
{
    return -1;
}

void set_access(uintptr_t address, const Block &block, bool open)
{
    auto set = open ? __asan_unpoison_memory_region : __asan_poison_memory_region;
    set((void *)address, block.n_bytes);
}
#else
int device_key()
{
    static int key = pkey_alloc(0, 0);
    return key;
}

void set_access(uintptr_t, const Block &, bool)
{
}
#endif

void set_all_access(bool open)
{
    if (device_key() >= 0)
        (void)pkey_set(device_key(), open ? 0 : PKEY_DISABLE_ACCESS);
    for (auto &[address, block] : runtime()->blocks)
        set_access(address, block, open);
}

/* Device memory is open between these two. */
void begin_running()
{
    if (runtime()->n_running++ == 0)
        set_all_access(true);
}

void end_running()
{
    if (--runtime()->n_running == 0)
        set_all_access(false);
}

/* The block ends as near to what cannot be touched as its alignment allows. */
bool make_block(size_t n_bytes, Block *block, void **memory)
{
    *block = {runtime()->device, n_bytes, nullptr, 0};
    if (EMU_ASAN)
        return posix_memalign(memory, ALIGNMENT, n_bytes) == 0;
    size_t aligned = (n_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    block->map_bytes = (aligned + PAGE - 1) / PAGE * PAGE + PAGE;
    void *map = mmap(nullptr, block->map_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED || mprotect((char *)map + block->map_bytes - PAGE, PAGE, PROT_NONE) != 0)
        return false;
    block->map = (char *)map;
    if (device_key() >= 0 &&
        pkey_mprotect(map, block->map_bytes - PAGE, PROT_READ | PROT_WRITE, device_key()) != 0)
        return false;
    *memory = block->map + block->map_bytes - PAGE - aligned;
    return true;
}

void free_block(uintptr_t address, const Block &block)
{
    set_access(address, block, true);
    if (block.map)
        munmap(block.map, block.map_bytes);
    else
        free((void *)address);
}

/* The block that p lies in, or NULL. */
const Block *block_at(const void *p, size_t *offset)
{
    auto &blocks = runtime()->blocks;
    auto after = blocks.upper_bound((uintptr_t)p);
    if (after == blocks.begin())
        return nullptr;
    auto &[address, block] = *--after;
    *offset = (uintptr_t)p - address;
    return *offset < block.n_bytes ? &block : nullptr;
}

bool is_pinned(const void *p)
{
    auto &pinned = runtime()->pinned;
    auto after = pinned.upper_bound((uintptr_t)p);
    if (after == pinned.begin())
        return false;
    auto &[address, n_bytes] = *--after;
    return (uintptr_t)p - address < n_bytes;
}

/* ---- streams: running ---------------------------------------------------------------------- */

bool can_run(cudaStream_t stream)
{
    return !stream->queue.empty() &&
           (stream->queue.front().kind != Op::WAIT || stream->queue.front().record->done);
}

/* The first of the queue, if its turn has come. False: nothing got done. */
bool run_one(cudaStream_t stream)
{
    if (!can_run(stream))
        return false;
    Op &op = stream->queue.front();
    switch (op.kind) {
    case Op::WORK:
        if (!op.work(op.arg.get()))
            return false;
        stream->us += op.us;
        break;
    case Op::RECORD:
        stream->us += 0.1;
        op.record->us = stream->us;
        op.record->done = true;
        break;
    case Op::WAIT:
        stream->us = std::max(stream->us, op.record->us);
        break;
    }
    stream->queue.pop_front();
    return true;
}

/* One step of the stream, or of the one it waits for. */
bool advance(cudaStream_t stream)
{
    while (!stream->queue.empty() && !can_run(stream))
        stream = stream->queue.front().record->stream;
    return run_one(stream);
}

/* One step of every stream but one. */
bool advance_others(cudaStream_t stream)
{
    bool moved = false;
    for (cudaStream_t other : runtime()->streams)
        if (other != stream)
            moved |= run_one(other);
    return moved;
}

/* One step in the chosen order when the host waits for a stream. */
bool step_towards(cudaStream_t stream)
{
    Runtime *rt = runtime();
    bool moved = false;
    switch (stream_order()) {
    case LATE:
    case EAGER:
        moved = advance(stream);
        break;
    case EARLY:
        moved = advance_others(stream) || advance(stream);
        break;
    case ALTERNATE:
        moved = run_one(rt->streams[rt->turn++ % rt->streams.size()]) || advance(stream);
        break;
    }
    return moved || advance_others(nullptr);
}

bool is_through(cudaStream_t stream, const Record *record)
{
    return record ? record->done : stream->queue.empty();
}

/* Wait for a record, or for all of the stream. */
void force(cudaStream_t stream, const Record *record)
{
    begin_running();
    while (!is_through(stream, record))
        if (!step_towards(stream))
            usleep(20); /* work that is not finished waits for another process */
    end_running();
}

/* As far as it gets without waiting for other processes. */
void progress_towards(cudaStream_t stream, const Record *record)
{
    begin_running();
    while (!is_through(stream, record) && step_towards(stream))
        ;
    end_running();
}

void progress_all()
{
    begin_running();
    while (advance_others(nullptr))
        ;
    end_running();
}

void force_device(int device)
{
    for (cudaStream_t stream : std::vector<cudaStream_t>(runtime()->streams))
        if (stream->device == device)
            force(stream, nullptr);
}

/* ---- streams: queueing --------------------------------------------------------------------- */

cudaStream_t new_stream()
{
    cudaStream_t stream = new CUstream_st();
    stream->device = runtime()->device;
    runtime()->streams.push_back(stream);
    return stream;
}

/* NULL is the device's default stream: one more stream, ordered with no other. */
cudaStream_t stream_of(cudaStream_t stream)
{
    if (stream)
        return stream;
    cudaStream_t &own = runtime()->default_stream[runtime()->device];
    if (!own)
        own = new_stream();
    return own;
}

bool is_stream(cudaStream_t stream)
{
    for (cudaStream_t one : runtime()->streams)
        if (one == stream)
            return true;
    return false;
}

cudaError_t queue(cudaStream_t stream, Op op)
{
    stream = stream_of(stream);
    NEED(is_stream(stream), cudaErrorInvalidResourceHandle);
    stream->queue.push_back(std::move(op));
    stream->asked = false;
    if (stream_order() == EAGER)
        progress_all();
    return cudaSuccess;
}

cudaError_t queue_work(cudaStream_t stream, FakeWork *work, const void *arg, size_t n_bytes,
                       double us)
{
    std::unique_ptr<char[]> copy(new char[n_bytes > 0 ? n_bytes : 1]);
    memcpy(copy.get(), arg, n_bytes);
    return queue(stream, {Op::WORK, work, std::move(copy), us, nullptr});
}

struct Copy {
    void *dst;
    const void *src;
    size_t n_bytes;
};

bool run_copy(void *arg)
{
    const Copy *copy = (const Copy *)arg;
    memmove(copy->dst, copy->src, copy->n_bytes);
    return true;
}

struct Fill {
    void *memory;
    int byte;
    size_t n_bytes;
};

bool run_fill(void *arg)
{
    const Fill *fill = (const Fill *)arg;
    memset(fill->memory, fill->byte, fill->n_bytes);
    return true;
}

/* At 20 GB/s. */
double copy_us(size_t n_bytes)
{
    return 1.0 + (double)n_bytes / 20e3;
}

cudaError_t check_copy(void *dst, const void *src, size_t n_bytes, cudaMemcpyKind kind)
{
    size_t offset;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind == cudaMemcpyDefault) {
        to_device = block_at(dst, &offset) != nullptr;
        from_device = block_at(src, &offset) != nullptr;
    }
    if (to_device ? !fake_is_device_memory(dst, n_bytes) : block_at(dst, &offset) != nullptr)
        return cudaErrorInvalidValue;
    if (from_device ? !fake_is_device_memory(src, n_bytes) : block_at(src, &offset) != nullptr)
        return cudaErrorInvalidValue;
    return cudaSuccess;
}

} // namespace

/* ---- for the other fakes ------------------------------------------------------------------- */

extern "C" {

cudaError_t fake_stream_push(cudaStream_t stream, FakeWork *work, const void *arg, size_t n_bytes,
                             double us)
{
    NEED_DEVICE();
    stream = stream_of(stream);
    NEED(is_stream(stream) && stream->device == runtime()->device, cudaErrorInvalidResourceHandle);
    return queue_work(stream, work, arg, n_bytes, us);
}

void fake_streams_progress(void)
{
    progress_all();
}

bool fake_is_device_memory(const void *memory, size_t n_bytes)
{
    size_t offset;
    const Block *block = block_at(memory, &offset);
    return block && n_bytes <= block->n_bytes - offset;
}

bool fake_memory_is_closed(void)
{
    return EMU_ASAN || device_key() >= 0;
}

bool fake_sees_races(void)
{
    return EMU_TSAN;
}

size_t fake_peak_bytes(void)
{
    return runtime()->peak_bytes[runtime()->device];
}

size_t fake_pinned_bytes(void)
{
    size_t sum = 0;
    for (const auto &block : runtime()->pinned)
        sum += block.second;
    return sum;
}

int fake_compute_capability(void)
{
    return runtime()->capability;
}

/* ---- errors -------------------------------------------------------------------------------- */

static const struct {
    cudaError_t error;
    const char *name, *text;
} ERRORS[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
     "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
};

const char *cudaGetErrorName(cudaError_t error)
{
    for (auto &one : ERRORS)
        if (one.error == error)
            return one.name;
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (auto &one : ERRORS)
        if (one.error == error)
            return one.text;
    return "unrecognized error code";
}

cudaError_t cudaPeekAtLastError(void)
{
    return runtime()->error;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = runtime()->error;
    runtime()->error = cudaSuccess;
    return error;
}

/* ---- devices ------------------------------------------------------------------------------- */

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = runtime()->n_devices < 0 ? 0 : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    cudaError_t status = check_device(0);
    if (status != cudaErrorInsufficientDriver) /* which leaves it as it was */
        *count = runtime()->n_devices;
    return put(status);
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t status = check_device(device);
    if (status == cudaSuccess)
        runtime()->device = device;
    return put(status);
}

cudaError_t cudaGetDevice(int *device)
{
    NEED_DEVICE();
    *device = runtime()->device;
    return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned)
{
    NEED_DEVICE();
    return cudaSuccess;
}

static size_t most_shared_bytes(int capability)
{
    switch (capability) {
    case 75:
        return 64 << 10;
    case 80:
    case 87:
        return 163 << 10;
    case 90:
    case 100:
        return 227 << 10;
    default: /* 86, 89, 120 */
        return 99 << 10;
    }
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device)
{
    Runtime *rt = runtime();
    cudaError_t status = check_device(device);
    NEED(status == cudaSuccess, status);
    *prop = {};
    snprintf(prop->name, sizeof prop->name, "CUDA on the CPU, sm_%d", rt->capability);
    snprintf(prop->uuid.bytes, sizeof prop->uuid.bytes, "fake gpu %d", rt->physical[device]);
    prop->totalGlobalMem = rt->memory_bytes;
    prop->sharedMemPerBlock = 48 << 10;
    prop->sharedMemPerBlockOptin = most_shared_bytes(rt->capability);
    prop->sharedMemPerMultiprocessor = prop->sharedMemPerBlockOptin + 1024;
    prop->regsPerBlock = 65536;
    prop->warpSize = emu::WARP;
    prop->maxThreadsPerBlock = emu::MAX_THREADS;
    prop->major = rt->capability / 10;
    prop->minor = rt->capability % 10;
    prop->multiProcessorCount = rt->n_sms;
    prop->l2CacheSize = 4 << 20;
    prop->memoryBusWidth = 256;
    prop->pciBusID = 1 + rt->physical[device];
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attr, int device)
{
    cudaDeviceProp prop;
    cudaError_t status = cudaGetDeviceProperties(&prop, device);
    NEED(status == cudaSuccess, status);
    const std::map<cudaDeviceAttr, int> values = {
        {cudaDevAttrMaxThreadsPerBlock, prop.maxThreadsPerBlock},
        {cudaDevAttrMaxSharedMemoryPerBlock, (int)prop.sharedMemPerBlock},
        {cudaDevAttrWarpSize, prop.warpSize},
        {cudaDevAttrClockRate, 1000000},
        {cudaDevAttrMultiProcessorCount, prop.multiProcessorCount},
        {cudaDevAttrIntegrated, prop.integrated},
        {cudaDevAttrPciBusId, prop.pciBusID},
        {cudaDevAttrPciDeviceId, prop.pciDeviceID},
        {cudaDevAttrMemoryClockRate, 1000000},
        {cudaDevAttrGlobalMemoryBusWidth, prop.memoryBusWidth},
        {cudaDevAttrL2CacheSize, prop.l2CacheSize},
        {cudaDevAttrPciDomainId, prop.pciDomainID},
        {cudaDevAttrComputeCapabilityMajor, prop.major},
        {cudaDevAttrComputeCapabilityMinor, prop.minor},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, (int)prop.sharedMemPerMultiprocessor},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, (int)prop.sharedMemPerBlockOptin},
    };
    auto found = values.find(attr);
    NEED(found != values.end(), cudaErrorInvalidValue);
    *value = found->second;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int n_bytes, int device)
{
    cudaDeviceProp prop;
    cudaError_t status = cudaGetDeviceProperties(&prop, device);
    NEED(status == cudaSuccess, status);
    int length = snprintf(text, (size_t)n_bytes, "0000:%02X:00.0", (unsigned)prop.pciBusID);
    return put(length < n_bytes ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaDeviceSynchronize(void)
{
    NEED_DEVICE();
    force_device(runtime()->device);
    return cudaSuccess;
}

cudaError_t cudaDeviceReset(void)
{
    return cudaDeviceSynchronize();
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    NEED_DEVICE();
    Runtime *rt = runtime();
    *total_bytes = rt->memory_bytes;
    *free_bytes = rt->memory_bytes - rt->used_bytes[rt->device];
    return cudaSuccess;
}

/* ---- streams ------------------------------------------------------------------------------- */

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    NEED_DEVICE();
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned, int)
{
    NEED_DEVICE();
    *stream = new_stream();
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    NEED(is_stream(stream), cudaErrorInvalidResourceHandle);
    force(stream, nullptr);
    std::vector<cudaStream_t> &streams = runtime()->streams;
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    NEED_DEVICE();
    stream = stream_of(stream);
    NEED(is_stream(stream), cudaErrorInvalidResourceHandle);
    force(stream, nullptr);
    return cudaSuccess;
}

/* Like an event's: the first answer while work is queued is "not ready". */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    NEED_DEVICE();
    stream = stream_of(stream);
    NEED(is_stream(stream), cudaErrorInvalidResourceHandle);
    if (stream->asked)
        progress_towards(stream, nullptr);
    stream->asked = true;
    return put(stream->queue.empty() ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    NEED(event, cudaErrorInvalidResourceHandle);
    if (!event->record)
        return cudaSuccess;
    return queue(stream, {Op::WAIT, nullptr, nullptr, 0, event->record});
}

/* ---- events -------------------------------------------------------------------------------- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    NEED_DEVICE();
    *event = new CUevent_st{nullptr, !(flags & cudaEventDisableTiming)};
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    NEED(event, cudaErrorInvalidResourceHandle);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    NEED_DEVICE();
    NEED(event, cudaErrorInvalidResourceHandle);
    stream = stream_of(stream);
    event->record = std::make_shared<Record>(Record{stream, false, false, 0});
    return queue(stream, {Op::RECORD, nullptr, nullptr, 0, event->record});
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    NEED(event, cudaErrorInvalidResourceHandle);
    if (event->record && !event->record->done)
        force(event->record->stream, event->record.get());
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    NEED(event, cudaErrorInvalidResourceHandle);
    Record *record = event->record.get();
    if (!record || record->done)
        return cudaSuccess;
    if (record->asked)
        progress_towards(record->stream, record);
    record->asked = true;
    return put(record->done ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    NEED(begin && end && begin->record && end->record && begin->timing && end->timing,
         cudaErrorInvalidResourceHandle);
    NEED(begin->record->done && end->record->done, cudaErrorNotReady);
    *ms = (float)((end->record->us - begin->record->us) / 1000);
    return cudaSuccess;
}

/* ---- memory -------------------------------------------------------------------------------- */

cudaError_t cudaMalloc(void **memory, size_t n_bytes)
{
    NEED_DEVICE();
    *memory = nullptr;
    if (n_bytes == 0)
        return cudaSuccess;
    Runtime *rt = runtime();
    size_t &used = rt->used_bytes[rt->device];
    NEED(n_bytes <= rt->memory_bytes - used && n_bytes <= rt->largest_block,
         cudaErrorMemoryAllocation);
    Block block;
    NEED(make_block(n_bytes, &block, memory), cudaErrorMemoryAllocation);
    begin_running();
    memset(*memory, 0xff, n_bytes);
    end_running();
    rt->blocks[(uintptr_t)*memory] = block;
    used += n_bytes;
    rt->peak_bytes[rt->device] = std::max(rt->peak_bytes[rt->device], used);
    set_access((uintptr_t)*memory, block, false);
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    NEED_DEVICE();
    if (!memory)
        return cudaSuccess;
    Runtime *rt = runtime();
    auto found = rt->blocks.find((uintptr_t)memory);
    NEED(found != rt->blocks.end(), cudaErrorInvalidValue);
    force_device(found->second.device);
    rt->used_bytes[found->second.device] -= found->second.n_bytes;
    free_block(found->first, found->second);
    rt->blocks.erase(found);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **memory, size_t n_bytes, unsigned)
{
    NEED_DEVICE();
    NEED(posix_memalign(memory, ALIGNMENT, n_bytes) == 0, cudaErrorMemoryAllocation);
    memset(*memory, 0xff, n_bytes);
    runtime()->pinned[(uintptr_t)*memory] = n_bytes;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t n_bytes)
{
    return cudaHostAlloc(memory, n_bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *memory)
{
    runtime()->pinned.erase((uintptr_t)memory);
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n_bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    NEED_DEVICE();
    if (n_bytes == 0)
        return cudaSuccess;
    cudaError_t status = check_copy(dst, src, n_bytes, kind);
    NEED(status == cudaSuccess, status);
    Copy copy = {dst, src, n_bytes};
    NEED(queue_work(stream, run_copy, &copy, sizeof copy, copy_us(n_bytes)) == cudaSuccess,
         runtime()->error);
    if (kind == cudaMemcpyDeviceToHost && !is_pinned(dst) && stream_order() == EARLY)
        force(stream_of(stream), nullptr);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t n_bytes, cudaMemcpyKind kind)
{
    cudaError_t status = cudaMemcpyAsync(dst, src, n_bytes, kind, nullptr);
    return status == cudaSuccess ? cudaStreamSynchronize(nullptr) : status;
}

cudaError_t cudaMemsetAsync(void *memory, int byte, size_t n_bytes, cudaStream_t stream)
{
    NEED_DEVICE();
    if (n_bytes == 0)
        return cudaSuccess;
    NEED(fake_is_device_memory(memory, n_bytes), cudaErrorInvalidValue);
    Fill fill = {memory, byte, n_bytes};
    return queue_work(stream, run_fill, &fill, sizeof fill, copy_us(n_bytes));
}

cudaError_t cudaMemset(void *memory, int byte, size_t n_bytes)
{
    return cudaMemsetAsync(memory, byte, n_bytes, nullptr);
}

/* ---- kernels ------------------------------------------------------------------------------- */

cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int)
{
    NEED_DEVICE();
    return cudaSuccess;
}

} // extern "C"

void emu::set_launch_error(cudaError_t status)
{
    put(status);
}
