/* Real data and golden files, which not every machine has: $GPT_SHARED_DATA. */
#ifndef GPT_TESTS_SHARED_DATA_H
#define GPT_TESTS_SHARED_DATA_H

#include "base/file.h"

/* The file `name` there; unmap it. The cmocka test is skipped, saying so, when there is none. */
FileMap shared_file(const char *name);

#endif
