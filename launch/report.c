#include "launch/report.h"

#include <jansson.h>
#include <stdlib.h>
#include <xxhash.h>

#include "comm/comm.h"
#include "kernels/device.h"

int report_error(const char *program, Err err, bool print)
{
    int exit_code = (int)err_code(err);
    if (err && print) {
        fprintf(stderr, "%s: %s\n", program, err_message(err));
        if (getenv("GPT_TRACE"))
            err_print_trail(err, stderr);
    }
    err_free(err);
    return exit_code;
}

const char *program_version(void)
{
    return GPT_VERSION;
}

void report_version(const char *program, FILE *out)
{
    fprintf(out, "%s %s\n", program, program_version());
    device_print_versions(out);
    comm_print_versions(out);
    unsigned xxh = XXH_versionNumber();
    fprintf(out, "jansson %s, xxHash %u.%u.%u\n", jansson_version_str(), xxh / 10000,
            xxh / 100 % 100, xxh % 100);
}

void report_exit_codes(FILE *out, ErrCode last)
{
    fprintf(out, "  %3d  %s\n", 0, "done");
#define X(name, exit_code, text)                                                                   \
    if (name <= last)                                                                              \
        fprintf(out, "  %3d  %s\n", exit_code, text);
    ERR_CODES(X)
#undef X
}
