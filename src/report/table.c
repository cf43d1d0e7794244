#include "report/table.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"

enum { FIRST_ROOM = 256 };

/* ---- growing ----------------------------------------------------------------------------- */

/* Room for one more of these; false when memory is short. */
static bool make_room(void **items, size_t item_bytes, int64_t n, int64_t *n_room)
{
    if (n < *n_room)
        return true;
    int64_t n_wanted = *n_room > 0 ? 2 * *n_room : FIRST_ROOM;
    void *grown = realloc(*items, (size_t)n_wanted * item_bytes);
    if (!grown)
        return false;
    *items = grown;
    *n_room = n_wanted;
    return true;
}

Err table_add(Table *table, const Row *row)
{
    void *rows = table->row;
    if (!make_room(&rows, sizeof *table->row, table->n_rows, &table->n_room))
        FAIL(ERR_SYSTEM, "out of memory for %lld lines of metrics", (long long)table->n_rows + 1);
    table->row = rows;
    table->row[table->n_rows++] = *row;
    return OK;
}

void table_free(Table *table)
{
    free(table->row);
    *table = (Table){0};
}

static Err points_add(Points *points, const Row *row, double value)
{
    void *items = points->point;
    if (!make_room(&items, sizeof *points->point, points->n_points, &points->n_room))
        FAIL(ERR_SYSTEM, "out of memory for a curve");
    points->point = items;
    points->point[points->n_points++] = (Point){row->iter, row->tokens, row->seconds, value};
    return OK;
}

void points_free(Points *points)
{
    free(points->point);
    *points = (Points){0};
}

/* ---- the least and the greatest ---------------------------------------------------------- */

static int64_t count_numbers(const Table *table, int32_t column)
{
    int64_t n = 0;
    for (int64_t i = 0; i < table->n_rows; i++)
        n += isfinite(table->row[i].value[column]) != 0;
    return n;
}

/* Rows of one part that its points are made of; -1: none yet. */
typedef struct {
    int64_t first, least, greatest, last;
} Part;

static void part_take(Part *part, const Table *table, int32_t column, int64_t i)
{
    double value = table->row[i].value[column];
    if (part->least < 0 || value < table->row[part->least].value[column])
        part->least = i;
    if (part->greatest < 0 || value > table->row[part->greatest].value[column])
        part->greatest = i;
    part->first = part->first < 0 ? i : part->first;
    part->last = i;
}

/* Row i, unless it is the one before. */
static Err add_row(Points *out, const Table *table, int32_t column, int64_t i, int64_t *before)
{
    if (i <= *before)
        return OK;
    *before = i;
    return points_add(out, &table->row[i], table->row[i].value[column]);
}

static Err add_part(Points *out, const Table *table, int32_t column, const Part *part,
                    bool is_first, bool is_last, int64_t *before)
{
    bool falls = part->greatest < part->least;
    if (is_first)
        TRY(add_row(out, table, column, part->first, before));
    TRY(add_row(out, table, column, falls ? part->greatest : part->least, before));
    TRY(add_row(out, table, column, falls ? part->least : part->greatest, before));
    return is_last ? add_row(out, table, column, part->last, before) : OK;
}

static Err thin(const Table *table, int32_t column, int64_t n_parts, Points *out)
{
    const Part nothing = {-1, -1, -1, -1};
    int64_t n = count_numbers(table, column), before = -1, seen = 0, k = 0;
    Part part = nothing;
    for (int64_t i = 0; i < table->n_rows; i++) {
        if (!isfinite(table->row[i].value[column]))
            continue;
        part_take(&part, table, column, i);
        seen++;
        if (seen * n_parts < (k + 1) * n)
            continue;
        TRY(add_part(out, table, column, &part, out->n_points == 0, seen == n, &before));
        part = nothing;
        k = seen * n_parts / n;
    }
    return OK;
}

Err points_thin(const Table *table, int32_t column, int64_t n_parts, Points *out)
{
    ASSERT(column >= 0 && column < TABLE_MAX_COLUMNS && n_parts > 0, "column %d, %lld parts",
           column, (long long)n_parts);
    *out = (Points){0};
    Err err = thin(table, column, n_parts, out);
    if (err)
        points_free(out);
    return err;
}

/* ---- the average ------------------------------------------------------------------------- */

static Err smooth(const Table *table, int32_t column, int64_t window, int64_t n_points, Points *out)
{
    int64_t n = count_numbers(table, column), seen = 0, k = 0;
    double keep = window > 1 ? 1 - 2 / ((double)window + 1) : 0, sum = 0, weight = 0;
    for (int64_t i = 0; i < table->n_rows; i++) {
        const Row *row = &table->row[i];
        if (!isfinite(row->value[column]))
            continue;
        sum = keep * sum + (1 - keep) * row->value[column];
        weight = keep * weight + (1 - keep);
        seen++;
        if (seen > 1 && seen * n_points < (k + 1) * n)
            continue;
        TRY(points_add(out, row, sum / weight));
        k = seen * n_points / n;
    }
    return OK;
}

Err points_smooth(const Table *table, int32_t column, int64_t window, int64_t n_points, Points *out)
{
    ASSERT(column >= 0 && column < TABLE_MAX_COLUMNS && n_points > 0, "column %d, %lld points",
           column, (long long)n_points);
    *out = (Points){0};
    Err err = smooth(table, column, window, n_points, out);
    if (err)
        points_free(out);
    return err;
}
