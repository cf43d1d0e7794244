/* cmocka checks of Err values: what a test shows when a call failed, or failed otherwise than it
 * should. */
#ifndef GPT_TESTS_CHECK_ERR_H
#define GPT_TESTS_CHECK_ERR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

/* `err` is OK; its message is shown when it is not. */
static inline void check_no_err(Err err)
{
    if (err)
        fail_msg("unexpected error: %s", err_message(err));
}

/* `err` has this code, its message is one line that contains `part`. Frees it. */
static inline void check_err(Err err, ErrCode code, const char *part)
{
    if (!err)
        fail_msg("no error, wanted \"%s\"", part);
    if (err_code(err) != code || !strstr(err_message(err), part) || strchr(err_message(err), '\n'))
        fail_msg("error %d \"%s\", wanted %d \"%s\"", (int)err_code(err), err_message(err),
                 (int)code, part);
    err_free(err);
}

#endif
