/* The fake NVML, libnvidia-ml.so.1: on every GPU the asking process has 1 GiB, process 4242 both
 * computes and draws with 9.1 GiB, and process 77 draws with an amount nobody knows. FAKE_NVML=off:
 * it does not start. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, UNKNOWN = 999 };

typedef struct {
    unsigned int pid;
    unsigned long long used_bytes;
    unsigned int gpu_instance, compute_instance;
} Process;

static const unsigned long long GIB = 1ULL << 30;
static int n_open; /* nvmlInit_v2 less nvmlShutdown */

static int give(const Process *list, unsigned int n_list, unsigned int *n, Process *process)
{
    unsigned int room = *n;
    *n = n_list;
    if (n_open < 1)
        return UNINITIALIZED;
    if (room < n_list)
        return INSUFFICIENT_SIZE;
    memcpy(process, list, n_list * sizeof *list);
    return SUCCESS;
}

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device);
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *n, Process *process);
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned int *n, Process *process);

int nvmlInit_v2(void)
{
    const char *mode = getenv("FAKE_NVML");
    if (mode && strcmp(mode, "off") == 0)
        return UNKNOWN;
    n_open++;
    return SUCCESS;
}

int nvmlShutdown(void)
{
    return n_open-- > 0 ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device)
{
    if (strncmp(uuid, "GPU-", 4) != 0 || strlen(uuid) != 40)
        return NOT_FOUND;
    *device = &n_open;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *n, Process *process)
{
    const Process list[] = {{.pid = (unsigned int)getpid(), .used_bytes = GIB},
                            {.pid = 4242, .used_bytes = 91 * GIB / 10}};
    return device == &n_open ? give(list, 2, n, process) : NOT_FOUND;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned int *n, Process *process)
{
    const Process list[] = {{.pid = 4242, .used_bytes = 91 * GIB / 10},
                            {.pid = 77, .used_bytes = ~0ULL}};
    return device == &n_open ? give(list, 2, n, process) : NOT_FOUND;
}
