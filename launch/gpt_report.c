/* gpt_report: what runs recorded, as one HTML page that needs nothing else. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/human.h"
#include "launch/args.h"
#include "launch/faults.h"
#include "launch/report.h"
#include "report/page.h"

enum { MOST_RUNS = 32 };
enum { FLAG_OUT, FLAG_HELP, FLAG_VERSION, N_FLAGS };

static const Flag FLAGS[N_FLAGS] = {
    [FLAG_OUT] = {"out", "FILE", "where the page goes (default report.html in the first OUT_DIR)",
                  NULL},
    [FLAG_HELP] = {"help", NULL, "this text", NULL},
    [FLAG_VERSION] = {"version", NULL, "versions of what it is built with", NULL},
};

typedef struct {
    Flag flag[N_FLAGS];
    char **path; /* of the runs */
    int32_t n_paths;
    Folder *folder; /* (n_paths) */
} Options;

static void print_help(void)
{
    printf(
        "usage: gpt_report OUT_DIR ... [flags]\n\n"
        "Writes one HTML page about a run, or several to compare: loss curves beside published "
        "ones,\nlearning rate, gradient norm, speed, memory, settings. The page needs no network "
        "and no other\nfile. A run may still be going on.\n\n");
    args_help(FLAGS, N_FLAGS, stdout);
    printf("\nexit codes:\n");
    report_exit_codes(stdout, ERR_WRITE);
}

static Err check_paths(const Options *o)
{
    if (o->n_paths == 0)
        FAIL(ERR_USAGE, "a report of which run? gpt_report OUT_DIR ...; --help lists the flags");
    for (int32_t i = 0; i < o->n_paths; i++)
        if (strcmp(o->path[i], "") == 0)
            FAIL(ERR_USAGE, "an OUT_DIR is empty");
    return args_refuse_rest(FLAGS, N_FLAGS, o->path, o->n_paths, MOST_RUNS);
}

static Err out_path(const Options *o, char *path)
{
    const char *given = o->flag[FLAG_OUT].text;
    if (!given)
        return path_join(path, o->path[0], "report.html");
    if (!given[0] || strlen(given) >= FILE_PATH_BYTES)
        FAIL(ERR_USAGE, "--out=%.64s: wanted the name of a file", given);
    strcpy(path, given);
    return OK;
}

static Err open_folders(Options *o)
{
    o->folder = calloc((size_t)o->n_paths, sizeof *o->folder);
    if (!o->folder)
        FAIL(ERR_SYSTEM, "out of memory for %" PRId32 " runs", o->n_paths);
    for (int32_t i = 0; i < o->n_paths; i++)
        TRY(folder_open(&o->folder[i], o->path[i]));
    return OK;
}

static void say_remarks(const Options *o)
{
    for (int32_t i = 0; i < o->n_paths; i++)
        for (int32_t k = 0; k < o->folder[i].n_remarks; k++)
            fprintf(stderr, "%s: %s\n", o->path[i], o->folder[i].remark[k]);
}

static Err write_page(const Options *o)
{
    char path[FILE_PATH_BYTES], *html = NULL;
    size_t n_bytes = 0;
    TRY(out_path(o, path));
    TRY(page_make(o->folder, o->n_paths, (int64_t)time(NULL), &html, &n_bytes));
    Err err = file_publish(path, html, n_bytes);
    free(html);
    if (err)
        return err;
    say_remarks(o);
    printf("%s: %" PRId32 " run%s, %s\n", path, o->n_paths, o->n_paths == 1 ? "" : "s",
           human_bytes(n_bytes).text);
    if (fflush(stdout) != 0 || ferror(stdout))
        FAIL(ERR_WRITE, "the page is %s, but standard output cannot be written: %s", path,
             strerror(errno));
    return OK;
}

static Err make_report(Options *o)
{
    TRY(check_paths(o));
    Err err = open_folders(o);
    if (!err)
        err = write_page(o);
    for (int32_t i = 0; o->folder && i < o->n_paths; i++)
        folder_close(&o->folder[i]);
    free(o->folder);
    return err;
}

static Err answer(Options *o)
{
    if (o->flag[FLAG_HELP].text)
        print_help();
    else if (o->flag[FLAG_VERSION].text)
        report_version("gpt_report", stdout);
    else
        TRY(make_report(o));
    return OK;
}

static Err run(int argc, char **argv)
{
    Options o = {.path = calloc((size_t)argc + 1, sizeof *o.path)};
    if (!o.path)
        FAIL(ERR_SYSTEM, "out of memory for the command line");
    memcpy(o.flag, FLAGS, sizeof FLAGS);
    Err err = args_take(o.flag, N_FLAGS, argc, argv, o.path, &o.n_paths);
    if (!err)
        err = answer(&o);
    free(o.path);
    return err;
}

int main(int argc, char **argv)
{
    faults_install();
    return report_error("gpt_report", run(argc, argv), true);
}
