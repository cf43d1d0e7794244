#include "kernels/cpu/host.h"

#include "base/err.h"
#include "base/file.h"
#include "kernels/cpu/vector.h"

#include <inttypes.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { PROC_FILE_BYTES = 1 << 22 }; /* /proc/cpuinfo of a machine with many cores */

/* ---- files of the kernel ----------------------------------------------------------------- */

/* The text of a file of the kernel, malloc'd; NULL when there is none, which is never an error
 * here. */
static char *read_proc(const char *path)
{
    char *text = NULL;
    err_free(file_read_text(path, PROC_FILE_BYTES, &text, NULL));
    return text;
}

/* What follows `key` at the start of a line of text, blanks and colons skipped; NULL without such a
 * line. */
static const char *line_after(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0)
            return line + n + strspn(line + n, " \t:");
    }
    return NULL;
}

static size_t number_in(const char *path, const char *key, size_t otherwise)
{
    char *text = read_proc(path);
    const char *value = text ? line_after(text, key) : NULL;
    size_t number = otherwise;
    if (value && *value >= '0' && *value <= '9')
        number = (size_t)strtoull(value, NULL, 10);
    free(text);
    return number;
}

void host_name(char *out, size_t n_bytes)
{
    char *text = read_proc("/proc/cpuinfo");
    const char *name = text ? line_after(text, "model name") : NULL;
    struct utsname machine;
    if (name)
        snprintf(out, n_bytes, "%.*s", (int)strcspn(name, "\n"), name);
    else
        snprintf(out, n_bytes, "%s processor", uname(&machine) == 0 ? machine.machine : "unknown");
    free(text);
}

/* ---- memory ------------------------------------------------------------------------------ */

/* The names of one control group version's files. */
typedef struct {
    const char *line; /* how its line in /proc/self/cgroup begins, after the number */
    const char *mount;
    const char *limit, *usage, *reclaimable;
} CgroupFiles;

static const CgroupFiles CGROUP_V2 = {"0::", "/sys/fs/cgroup", "memory.max", "memory.current",
                                      "inactive_file "};
static const CgroupFiles CGROUP_V1 = {":memory:", "/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                      "memory.usage_in_bytes", "total_inactive_file "};

/* What one group leaves; SIZE_MAX when it sets no limit. */
static size_t group_free(const CgroupFiles *files, const char *group)
{
    char path[FILE_PATH_BYTES];
    const char *form = "%s%s/%s";
    snprintf(path, sizeof(path), form, files->mount, group, files->limit);
    size_t limit = number_in(path, "", SIZE_MAX);
    snprintf(path, sizeof(path), form, files->mount, group, files->usage);
    size_t used = number_in(path, "", 0);
    snprintf(path, sizeof(path), form, files->mount, group, "memory.stat");
    size_t reclaimable = number_in(path, files->reclaimable, 0);
    used -= reclaimable < used ? reclaimable : used;
    if (limit == SIZE_MAX)
        return SIZE_MAX;
    return limit > used ? limit - used : 0;
}

/* The least that the groups from this process's own up to the root leave. */
static size_t groups_free(const CgroupFiles *files, const char *membership)
{
    const char *line = strstr(membership, files->line);
    if (!line)
        return SIZE_MAX;
    char group[FILE_PATH_BYTES / 2];
    line += strlen(files->line);
    snprintf(group, sizeof(group), "%.*s", (int)strcspn(line, "\n"), line);
    size_t least = SIZE_MAX;
    for (;;) {
        size_t n = group_free(files, group);
        least = n < least ? n : least;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

void host_memory(size_t *total_bytes, size_t *free_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *total_bytes = (size_t)sysconf(_SC_PHYS_PAGES) * page;
    size_t available_kib = number_in("/proc/meminfo", "MemAvailable", 0);
    *free_bytes = available_kib ? available_kib * 1024 : (size_t)sysconf(_SC_AVPHYS_PAGES) * page;
    char *membership = read_proc("/proc/self/cgroup");
    if (!membership)
        return;
    size_t v2 = groups_free(&CGROUP_V2, membership), v1 = groups_free(&CGROUP_V1, membership);
    size_t group = v1 < v2 ? v1 : v2;
    *free_bytes = group < *free_bytes ? group : *free_bytes;
    free(membership);
}

/* ---- speed ------------------------------------------------------------------------------- */

/* Twelve independent chains of multiply-adds hide their latency and fit any register file. */
enum { CHAINS = 12, CHAIN_STEPS = 20000, ROUNDS = 20 };

static float multiply_adds(float start)
{
    Vec acc[CHAINS];
    for (int32_t c = 0; c < CHAINS; c++)
        acc[c] = vec_set(start + (float)c);
    Vec factor = vec_set(0.999f), addend = vec_set(start);
    for (int32_t step = 0; step < CHAIN_STEPS; step++) {
#pragma GCC unroll 12
        for (int32_t c = 0; c < CHAINS; c++)
            acc[c] = acc[c] * factor + addend;
    }
    float sum = 0;
    for (int32_t c = 0; c < CHAINS; c++)
        sum += acc[c][0];
    return sum;
}

double host_peak_flops(int32_t n_threads)
{
    double per_round = 2.0 * CHAINS * CHAIN_STEPS * VEC_LANES * n_threads, best = 0;
    float used = 0; /* keeps the loop from being removed */
    for (int32_t round = 0; round < ROUNDS; round++) {
        double begin = omp_get_wtime();
#pragma omp parallel num_threads(n_threads) reduction(+ : used)
        used += multiply_adds(1e-3f * (float)(round + 1));
        double seconds = omp_get_wtime() - begin;
        if (per_round / seconds > best)
            best = per_round / seconds;
    }
    return used > 0 ? best : 0;
}
