/* Table: what a run recorded, a row for each line; and Points, a curve small enough for a page.
 *
 * A run of 600,000 steps is 600,000 rows. points_thin keeps the least and the greatest value of
 * each of many equal parts, so that no spike is lost; points_smooth averages before it thins. */
#ifndef GPT_REPORT_TABLE_H
#define GPT_REPORT_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TABLE_MAX_COLUMNS = 5 };

typedef struct {
    int64_t iter;
    int64_t tokens;                  /* consumed so far */
    double seconds;                  /* spent in steps so far */
    double value[TABLE_MAX_COLUMNS]; /* NaN: none */
} Row;

/* Rows by rising iter. Zero-initialised is empty. */
typedef struct {
    Row *row; /* owned */
    int64_t n_rows, n_room;
} Table;

typedef struct {
    int64_t iter, tokens;
    double seconds, value; /* finite */
} Point;

typedef struct {
    Point *point; /* owned */
    int64_t n_points, n_room;
} Points;

/* ERR_SYSTEM: out of memory. */
Err table_add(Table *table, const Row *row);
void table_free(Table *table);

/* *out = at most 2 * n_parts + 2 points of a column: the first and the last number in it, and of
 * n_parts parts of as many numbers the least and the greatest, by rising iter. The caller frees it.
 * ERR_SYSTEM. */
Err points_thin(const Table *table, int32_t column, int64_t n_parts, Points *out);

/* *out = at most n_points + 1 points of the exponential moving average over `window` rows, its
 * start corrected as Adam's moments are; the last number's is one of them. ERR_SYSTEM. */
Err points_smooth(const Table *table, int32_t column, int64_t window, int64_t n_points,
                  Points *out);

void points_free(Points *points);

#ifdef __cplusplus
}
#endif
#endif
