/* Report: how a program ends. The only place where an Err becomes an exit code and a line on
 * stderr. */
#ifndef GPT_LAUNCH_REPORT_H
#define GPT_LAUNCH_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The exit code of `err` (0 for OK); frees it. When `print`, one line "program: message" goes to
 * stderr, and with GPT_TRACE set in the environment the places it passed through. */
int report_error(const char *program, Err err, bool print);

/* "program 0.1.0" and what it was built with and runs on, one line each. */
void report_version(const char *program, FILE *out);

/* The table of exit codes, for --help: 0 to `last`. Those above ERR_WRITE are of training only. */
void report_exit_codes(FILE *out, ErrCode last);

/* "0.1.0" */
const char *program_version(void);

#ifdef __cplusplus
}
#endif
#endif
