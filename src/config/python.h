/* Python: the assignments of a nanoGPT configuration file (config/train_gpt2.py and the like).
 *
 *     import time                                      # passed over
 *     batch_size = 12
 *     gradient_accumulation_steps = 5 * 8              # arithmetic: + - * / // % ** and ( )
 *     lr_decay_iters = max_iters                       # with names set above
 *     out_dir = 'out-gpt2'                             # True, False, numbers, one string
 *     wandb_run_name = 'ft-' + str(time.time())        # of keys without meaning here: anything
 *
 * nanoGPT executes such a file; here it is read, and what is more than that is refused with its
 * line. As in Python the last of two assignments counts. */
#ifndef GPT_CONFIG_PYTHON_H
#define GPT_CONFIG_PYTHON_H

#include <stdbool.h>

#include "config/ini.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Does the path end in ".py"? */
bool python_is_path(const char *path);

/* The assignments of `path` as the entries an INI file would have; a name that is no key, and that
 * a later line uses, is none of them. ERR_MISSING when it cannot be read, ERR_USAGE with
 * "path:line: what, and the fix" for everything else. ini_free. */
Err python_read(Ini *ini, const char *path);

#ifdef __cplusplus
}
#endif
#endif
