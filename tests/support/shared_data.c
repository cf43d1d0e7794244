#include "tests/support/shared_data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/check_err.h"

FileMap shared_file(const char *name)
{
    char path[FILE_PATH_BYTES];
    FileMap map;
    const char *dir = getenv("GPT_SHARED_DATA");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "", name);
    if (!dir || !path_exists(path)) {
        print_message("skipped: GPT_SHARED_DATA holds no %s\n", name);
        skip();
    }
    check_no_err(file_map(&map, path));
    return map;
}
