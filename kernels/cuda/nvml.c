#include "kernels/cuda/nvml.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/human.h"

/* ---- the library's binary interface (NVML API reference, nvmlProcessInfo_v2_t) ------------- */

typedef int NvmlReturn; /* 0: success */
typedef void *NvmlDevice;

typedef struct {
    unsigned int pid;
    unsigned long long used_bytes; /* all ones: not known */
    unsigned int gpu_instance, compute_instance;
} NvmlProcess;

typedef NvmlReturn NvmlPlainFn(void);
typedef NvmlReturn NvmlFindFn(const char *uuid, NvmlDevice *device);
/* *n: room in `process`, then how many there are; an error when that is not enough. */
typedef NvmlReturn NvmlProcessesFn(NvmlDevice device, unsigned int *n, NvmlProcess *process);

static const unsigned long long UNKNOWN_BYTES = ~0ULL;
enum { MAX_PROCESSES = 64 };

typedef struct {
    void *library;
    NvmlPlainFn *init, *shutdown;
    NvmlFindFn *find;
    NvmlProcessesFn *compute, *graphics;
} Nvml;

/* *function = the symbol; the same bytes, for C has no conversion between the two pointers. */
static bool find_function(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol;
}

/* Version 3 came with driver 510, version 2 has the same arguments. */
static bool find_functions(Nvml *nvml)
{
    void *library = nvml->library;
    return find_function(library, "nvmlInit_v2", &nvml->init) &&
           find_function(library, "nvmlShutdown", &nvml->shutdown) &&
           find_function(library, "nvmlDeviceGetHandleByUUID", &nvml->find) &&
           (find_function(library, "nvmlDeviceGetComputeRunningProcesses_v3", &nvml->compute) ||
            find_function(library, "nvmlDeviceGetComputeRunningProcesses_v2", &nvml->compute)) &&
           (find_function(library, "nvmlDeviceGetGraphicsRunningProcesses_v3", &nvml->graphics) ||
            find_function(library, "nvmlDeviceGetGraphicsRunningProcesses_v2", &nvml->graphics));
}

/* ---- asking ------------------------------------------------------------------------------- */

typedef struct {
    NvmlProcess process[2 * MAX_PROCESSES];
    unsigned int n;
} Others;

static bool is_listed(const Others *others, unsigned int pid)
{
    for (unsigned int i = 0; i < others->n; i++)
        if (others->process[i].pid == pid)
            return true;
    return false;
}

/* A process that both computes and draws is in both lists, with the same bytes. */
static void list_others(Others *others, NvmlProcessesFn *processes, NvmlDevice device)
{
    NvmlProcess found[MAX_PROCESSES];
    unsigned int n = MAX_PROCESSES;
    if (processes(device, &n, found) != 0 || n > MAX_PROCESSES)
        return;
    for (unsigned int i = 0; i < n; i++)
        if (found[i].pid != (unsigned int)getpid() && !is_listed(others, found[i].pid))
            others->process[others->n++] = found[i];
}

static void ask(const Nvml *nvml, const char *uuid, Others *others)
{
    NvmlDevice device = NULL;
    if (nvml->init() != 0)
        return;
    if (nvml->find(uuid, &device) == 0) {
        list_others(others, nvml->compute, device);
        list_others(others, nvml->graphics, device);
    }
    (void)nvml->shutdown();
}

static void describe(const Others *others, char *text, size_t n_bytes)
{
    size_t used = 0;
    for (unsigned int i = 0; i < others->n; i++) {
        const NvmlProcess *p = &others->process[i];
        Human amount = human_bytes((size_t)p->used_bytes);
        int n = snprintf(text + used, n_bytes - used, "%spid %u holds %s", used ? ", " : "", p->pid,
                         p->used_bytes == UNKNOWN_BYTES ? "an unknown amount" : amount.text);
        if (n < 0 || (size_t)n >= n_bytes - used) {
            text[used] = '\0';
            return;
        }
        used += (size_t)n;
    }
}

void nvml_others(const char *uuid, char *text, size_t n_bytes)
{
    Nvml nvml = {.library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)};
    Others others = {.n = 0};
    text[0] = '\0';
    if (!nvml.library)
        return;
    if (find_functions(&nvml))
        ask(&nvml, uuid, &others);
    describe(&others, text, n_bytes);
    (void)dlclose(nvml.library);
}
