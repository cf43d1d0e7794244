/* --check: which rank computes where, and whether the ranks go together: program, libraries,
 * clocks, limits of the system. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/file.h"
#include "base/human.h"
#include "launch/bind.h"
#include "launch/check_line.h"
#include "launch/report.h"
#include "plan/plan.h"

enum { VERSIONS_BYTES = 1024 };
static const double MOST_SKEW_S = 2;

/* ---- what each rank tells ---------------------------------------------------------------- */

typedef struct {
    char host[sizeof((Comm *)0)->host];
    char device[128];
    char versions[VERSIONS_BYTES]; /* lines of report_version */
    uint64_t program;              /* a checksum of the program's file; 0: not known */
    double clock_s;                /* since 1970 */
    int32_t n_threads, n_cpus, n_sharers;
} RankFacts;

/* XXH3 of the checksums of its blocks would do as well; their sum is the same on all ranks. */
static uint64_t program_checksum(void)
{
    FileDigest digest = {0};
    uint64_t sum = 0;
    Err err = file_digest("/proc/self/exe", &digest);
    for (int64_t i = 0; i < digest.n_blocks && !err; i++)
        sum += digest.block_hash[i] * (uint64_t)(2 * i + 1);
    file_digest_free(&digest);
    err_free(err);
    return sum;
}

static void describe_versions(char *out)
{
    FILE *stream = fmemopen(out, VERSIONS_BYTES, "w");
    if (stream) {
        report_version("gpt_ddp", stream);
        fclose(stream);
    }
    out[VERSIONS_BYTES - 1] = '\0';
}

static void describe_device(Device *dev, bool has_device, RankFacts *facts)
{
    DeviceInfo info = {.name = "no device"};
    if (has_device)
        err_free(device_info(dev, &info));
    snprintf(facts->device, sizeof facts->device, "%.80s%s%.40s", info.name, info.id[0] ? " " : "",
             info.id);
    facts->n_threads = has_device ? dev->n_threads : 0;
    facts->n_sharers = has_device ? dev->n_sharers : 0;
}

static double wall_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* *all: of every rank, malloc'd; the same on every rank. */
static Err gather_facts(Check *c, Device *dev, bool has_device, RankFacts **all)
{
    Comm *comm = c->comm;
    RankFacts *mine = calloc(1, sizeof *mine);
    *all = calloc((size_t)comm->world, sizeof **all);
    Err err = mine && *all ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for %d ranks", comm->world);
    TRY_GOTO(err, done, comm_agree(comm, err));
    memcpy(mine->host, comm->host, sizeof mine->host);
    describe_device(dev, has_device, mine);
    describe_versions(mine->versions);
    mine->program = program_checksum();
    mine->n_cpus = bind_n_cpus();
    TRY_GOTO(err, done, comm_barrier(comm)); /* all look at their clocks together */
    mine->clock_s = wall_clock();
    TRY_GOTO(err, done, comm_gather_bytes(comm, mine, sizeof *mine, *all));
done:
    free(mine);
    return err;
}

/* ---- what is made of it ------------------------------------------------------------------ */

static void say_places(Check *c, const RankFacts *all)
{
    for (int32_t r = 0; r < c->comm->world; r++)
        check_ok(c, "rank", "%d on %s: %s, of %d CPUs here", r, all[r].host, all[r].device,
                 all[r].n_cpus);
}

static int line_length(const char *text)
{
    return (int)strcspn(text, "\n");
}

/* The first line in which two texts of lines differ; false: none. */
static bool first_difference(const char *a, const char *b, const char **line_a, const char **line_b)
{
    while (*a || *b) {
        int n = line_length(a), m = line_length(b);
        *line_a = a;
        *line_b = b;
        if (n != m || memcmp(a, b, (size_t)n) != 0)
            return true;
        a += n + (a[n] == '\n');
        b += m + (b[m] == '\n');
    }
    return false;
}

/* ERR_SYSTEM names the first rank that differs from rank 0. */
static Err compare_programs(const RankFacts *all, int32_t world)
{
    for (int32_t r = 1; r < world; r++) {
        const char *theirs = "", *first = "";
        if (first_difference(all[r].versions, all[0].versions, &theirs, &first))
            FAIL(ERR_SYSTEM,
                 "rank %d on %s has \"%.*s\", rank 0 on %s has \"%.*s\": install the same on all",
                 r, all[r].host, line_length(theirs), theirs, all[0].host, line_length(first),
                 first);
        if (all[r].program != all[0].program)
            FAIL(ERR_SYSTEM,
                 "rank %d on %s runs another gpt_ddp than rank 0 on %s: copy the program to all "
                 "hosts, or start it from a file system they share",
                 r, all[r].host, all[0].host);
    }
    return OK;
}

/* out (n_bytes) = "a; b; c" of lines. */
static void join_lines(const char *text, char *out, size_t n_bytes)
{
    size_t used = 0;
    out[0] = '\0';
    while (*text && used < n_bytes) {
        int n = line_length(text);
        used += (size_t)snprintf(out + used, n_bytes - used, "%s%.*s", used ? "; " : "", n, text);
        text += n + (text[n] == '\n');
    }
}

static void say_versions(Check *c, const RankFacts *all)
{
    char text[2 * VERSIONS_BYTES];
    join_lines(all[0].versions, text, sizeof text);
    if (check_passed(c, "versions", compare_programs(all, c->comm->world)))
        check_ok(c, "versions", "%s", text);
}

static void say_clocks(Check *c, const RankFacts *all)
{
    int32_t first = 0, last = 0;
    for (int32_t r = 1; r < c->comm->world; r++) {
        first = all[r].clock_s < all[first].clock_s ? r : first;
        last = all[r].clock_s > all[last].clock_s ? r : last;
    }
    double skew_s = all[last].clock_s - all[first].clock_s;
    if (skew_s > MOST_SKEW_S)
        check_warn(c, "clocks", "%s is %.1f s ahead of %s: logs will not fit together; see to NTP",
                   all[last].host, skew_s, all[first].host);
    else if (c->comm->world > 1)
        check_ok(c, "clocks", "%.3f s apart", skew_s);
}

static void say_threads(Check *c, const RankFacts *all)
{
    for (int32_t r = 0; r < c->comm->world; r++) {
        int32_t wanted = all[r].n_threads * all[r].n_sharers;
        if (wanted <= all[r].n_cpus)
            continue;
        check_warn(c, "threads",
                   "rank %d on %s: %d ranks x %d threads on %d CPUs: lower OMP_NUM_THREADS or "
                   "start fewer ranks",
                   r, all[r].host, all[r].n_sharers, all[r].n_threads, all[r].n_cpus);
        return;
    }
}

void check_ranks(Check *c, Device *dev, bool has_device)
{
    RankFacts *all = NULL;
    if (check_passed(c, "ranks", gather_facts(c, dev, has_device, &all))) {
        say_places(c, all);
        say_versions(c, all);
        say_clocks(c, all);
        if (has_device && dev->kind == DEVICE_CPU)
            say_threads(c, all);
    }
    free(all);
}

/* ---- limits of the system ---------------------------------------------------------------- */

enum { SHM_BYTES_PER_RANK = 32 << 20 };

static int64_t limit_of(int resource)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur > (rlim_t)INT64_MAX)
        return INT64_MAX;
    return (int64_t)limit.rlim_cur;
}

/* The least of all ranks. */
typedef struct {
    int64_t file_bytes, locked_bytes, shm_bytes; /* shm: for each rank of a host */
} Limits;

static Err least_limits(Comm *comm, Limits *least)
{
    size_t shm_bytes = 0;
    bool has_shm = dir_free_bytes("/dev/shm", &shm_bytes);
    int64_t shm_share = has_shm ? (int64_t)(shm_bytes / (size_t)comm->local_world) : INT64_MAX;
    int64_t most[3] = {-limit_of(RLIMIT_FSIZE), -limit_of(RLIMIT_MEMLOCK), -shm_share};
    TRY(comm_max_i64(comm, most, 3));
    *least = (Limits){-most[0], -most[1], -most[2]};
    return OK;
}

/* Weights and moments of a checkpoint are a file each; the second is twice as large. */
static Err check_file_limit(const Check *c, const Limits *least)
{
    GptDims dims = gpt_dims(c->cfg, check_vocab_size(c));
    int64_t largest = gpt_param_count(&dims, true) * 2 * (int64_t)sizeof(float);
    if (least->file_bytes < largest)
        FAIL(ERR_WRITE,
             "files may have %s (ulimit -f), and optimizer.safetensors will have %s: raise it",
             human_bytes((size_t)least->file_bytes).text, human_bytes((size_t)largest).text);
    return OK;
}

void check_limits(Check *c, const Device *dev)
{
    Limits least = {0};
    bool pins = dev->ops && dev->kind == DEVICE_CUDA && c->comm->local_world < c->comm->world;
    if (!check_passed(c, "limits", least_limits(c->comm, &least)) ||
        !check_passed(c, "limits", check_file_limit(c, &least)))
        return;
    if (c->comm->local_world > 1 && least.shm_bytes < SHM_BYTES_PER_RANK)
        check_warn(c, "limits",
                   "/dev/shm has %s for each rank of a host, MPI and NCCL want some %s: in a "
                   "container, start it with a larger one (--shm-size)",
                   human_bytes((size_t)least.shm_bytes).text, human_bytes(SHM_BYTES_PER_RANK).text);
    else if (pins && least.locked_bytes < INT64_MAX)
        check_warn(c, "limits",
                   "only %s may be locked in memory (ulimit -l), which InfiniBand needs unlimited",
                   human_bytes((size_t)least.locked_bytes).text);
    else
        check_ok(c, "limits", "file sizes, locked memory and /dev/shm suffice");
}
