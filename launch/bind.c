#include "launch/bind.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 4096 };

/* A variable's whole number, or fallback when it is unset or something else. */
static int32_t env_int(const char *name, int32_t fallback)
{
    const char *text = getenv(name);
    if (!text || !*text)
        return fallback;
    char *end;
    long value = strtol(text, &end, 10);
    return *end == '\0' && value >= 0 && value <= INT32_MAX ? (int32_t)value : fallback;
}

static int32_t first_env_int(const char *const *name, int32_t n, int32_t fallback)
{
    for (int32_t i = 0; i < n; i++)
        if (getenv(name[i]))
            return env_int(name[i], fallback);
    return fallback;
}

Launcher launcher_detect(void)
{
    static const char *const signs[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE",
                                        "MPI_LOCALRANKID"};
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};
    static const char *const ranks[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    Launcher found = {.present = false, .world = first_env_int(sizes, 2, 0)};
    found.rank = first_env_int(ranks, 3, 0);
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        found.present |= getenv(signs[i]) != NULL;

    /* srun sets the step's variables; a batch script of several tasks has SLURM_NTASKS but is no
     * step. */
    int32_t tasks = env_int("SLURM_STEP_NUM_TASKS", env_int("SLURM_NTASKS", 1));
    if (!found.present && !getenv("SLURM_STEP_ID"))
        found.job_tasks = env_int("SLURM_NTASKS", 0);
    if (getenv("SLURM_STEP_ID") && tasks > 1 && !getenv("OMPI_COMM_WORLD_SIZE")) {
        found.strangers = !found.present;
        found.present = true;
        found.world = tasks;
        found.rank = env_int("SLURM_PROCID", found.rank);
    }
    return found;
}

Err launcher_check_start(const Launcher *launcher)
{
    if (launcher->strangers)
        FAIL(ERR_SYSTEM,
             "srun started %d tasks, and MPI in them would not know of each other: start with srun "
             "--mpi=pmix (srun --mpi=list shows what this Slurm has), or with mpirun in the job",
             launcher->world);
    return OK;
}

Err launcher_check(const Launcher *launcher, const Comm *comm)
{
    if (launcher->world > 1 && comm->world == 1)
        FAIL(ERR_SYSTEM,
             "the launcher started %d processes, but MPI sees only this one: start with the mpirun "
             "of the MPI this program was built with (--version), or with srun --mpi=pmix",
             launcher->world);
    return OK;
}

int32_t bind_n_cpus(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than a cpu_set_t holds */
    return online > 0 ? (int32_t)online : 1;
}

typedef struct {
    char host[sizeof((Comm *)0)->host];
    cpu_set_t cpus;
} Place;

/* Ranks, this one included, that may run on a CPU this one may run on. */
static int32_t count_sharers(const Place *place, int32_t world, int32_t rank)
{
    int32_t n = 0;
    for (int32_t r = 0; r < world; r++) {
        cpu_set_t both;
        CPU_AND(&both, &place[r].cpus, &place[rank].cpus);
        bool same_host = strcmp(place[r].host, place[rank].host) == 0;
        n += r == rank || (same_host && CPU_COUNT(&both) > 0);
    }
    return n;
}

static Err own_share(Comm *comm, int32_t *n_threads)
{
    Place mine = {.host = ""};
    memcpy(mine.host, comm->host, sizeof mine.host);
    if (sched_getaffinity(0, sizeof mine.cpus, &mine.cpus) != 0)
        memset(&mine.cpus, 0xff, sizeof mine.cpus);
    Place *all = calloc((size_t)comm->world, sizeof *all);
    Err err = all ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for %d ranks", comm->world);
    err = comm_agree(comm, err);
    if (!err)
        err = comm_gather_bytes(comm, &mine, sizeof mine, all);
    if (!err) {
        int32_t share = bind_n_cpus() / count_sharers(all, comm->world, comm->rank);
        *n_threads = share > 0 ? share : 1;
    }
    free(all);
    return err;
}

/* OMP_NUM_THREADS may be a list, one number per nesting level: the first counts. */
static Err threads_from_env(int32_t *n_threads)
{
    const char *text = getenv("OMP_NUM_THREADS");
    *n_threads = 0;
    if (!text || !*text)
        return OK;
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || (*end != '\0' && *end != ',') || value < 1 || value > MAX_THREADS)
        FAIL(ERR_USAGE, "OMP_NUM_THREADS=%s: must be a number from 1 to %d", text, MAX_THREADS);
    *n_threads = (int32_t)value;
    return OK;
}

Err bind_threads(Comm *comm, int32_t *n_threads)
{
    int32_t share = 1;
    TRY(comm_agree(comm, threads_from_env(n_threads)));
    TRY(own_share(comm, &share));
    if (*n_threads == 0)
        *n_threads = share;
    return OK;
}

Err bind_planned_threads(int32_t world, int32_t *n_threads)
{
    int32_t share = bind_n_cpus() / world;
    TRY(threads_from_env(n_threads));
    if (*n_threads == 0)
        *n_threads = share > 0 ? share : 1;
    return OK;
}
