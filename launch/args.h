/* Args: flag parsing shared by the programs. A program lists its flags in a table; the table is
 * also its --help. What is not in the table (a config file, --key=value) is left for the
 * program, in order. */
#ifndef GPT_LAUNCH_ARGS_H
#define GPT_LAUNCH_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/nearest.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *name;  /* "world", without dashes; _ and - are the same */
    const char *value; /* what the help calls its value, "N"; NULL: a switch without one; "[=json]":
                        * one that may be left out, and only follows a '=' */
    const char *help;
    const char *text; /* out: the value as given ("" for a switch); NULL: not given */
} Flag;

/* Take the known flags out of argv[1..argc): --name, --name=VALUE, or --name VALUE where VALUE does
 * not begin with "--". rest (room for argc pointers) gets everything else. ERR_USAGE: a value
 * missing, unexpected, or a flag given twice. */
Err args_take(Flag *flag, int32_t n_flags, int argc, char **argv, char **rest, int32_t *n_rest);

/* For "did you mean" of a word that is no flag: name (ARGS_NAME_BYTES) = what it calls, without
 * dashes and value; and the flags shown to a search for the nearest. */
enum { ARGS_NAME_BYTES = 2 * NEAREST_WORD_BYTES };
void args_name(const char *word, char *name);
void args_try(const Flag *flag, int32_t n_flags, Nearest *nearest);

/* ERR_USAGE naming the first of rest that looks like a flag, and the one it may have been meant
 * for, or comes after n_allowed others: for programs that know all their arguments. Where
 * one other is allowed, it is a directory. */
Err args_refuse_rest(const Flag *flag, int32_t n_flags, char *const *rest, int32_t n_rest,
                     int32_t n_allowed);

/* *value = the flag's number, unchanged when it was not given. ERR_USAGE: no number, or outside
 * [low, high]. */
Err args_integer(const Flag *flag, int64_t low, int64_t high, int64_t *value);
Err args_number(const Flag *flag, double low, double high, double *value);
/* The same for a part of something: above 0 and below 1. */
Err args_fraction(const Flag *flag, double *value);

/* *which = the place of the flag's word in a list that NULL ends, unchanged when it was not given.
 * ERR_USAGE lists them. */
Err args_choice(const Flag *flag, const char *const *words, int32_t *which);

/* One aligned line for each flag. */
void args_help(const Flag *flag, int32_t n_flags, FILE *out);

#ifdef __cplusplus
}
#endif
#endif
