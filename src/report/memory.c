#include "report/memory.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_REGIONS = 2048, MAX_GROUPS = 16 };
static const json_int_t MAX_BYTES = INT64_C(1) << 53;

typedef struct {
    const char *name; /* borrowed from the plan */
    int64_t bytes, own;
} Group;

typedef struct {
    int32_t group;
    int64_t begin, end;
} Span;

typedef struct {
    Group group[MAX_GROUPS];
    int32_t n_groups;
    Span span[MAX_REGIONS];
    int32_t n_spans;
    int64_t edge[2 * MAX_REGIONS]; /* where spans begin and end, sorted */
} Map;

/* ---- reading ----------------------------------------------------------------------------- */

/* The number of the group; -1: there are too many. */
static int32_t group_index(Map *map, const char *name)
{
    for (int32_t i = 0; i < map->n_groups; i++)
        if (strcmp(map->group[i].name, name) == 0)
            return i;
    if (map->n_groups == MAX_GROUPS)
        return -1;
    map->group[map->n_groups] = (Group){.name = name};
    return map->n_groups++;
}

static bool add_region(Map *map, const json_t *region)
{
    const char *group = json_string_value(json_object_get(region, "group"));
    const json_t *offset = json_object_get(region, "offset"),
                 *bytes = json_object_get(region, "bytes");
    json_int_t begin = json_integer_value(offset), length = json_integer_value(bytes);
    if (!group || !json_is_integer(offset) || !json_is_integer(bytes) || begin < 0 || length < 0 ||
        begin > MAX_BYTES || length > MAX_BYTES || map->n_spans == MAX_REGIONS)
        return false;
    int32_t index = group_index(map, group);
    if (index < 0)
        return false;
    map->group[index].own += length;
    map->span[map->n_spans++] = (Span){index, begin, begin + length};
    return true;
}

static bool read_regions(Map *map, const json_t *regions)
{
    size_t i;
    json_t *region;
    if (!json_is_array(regions))
        return false;
    json_array_foreach(regions, i, region)
    {
        if (!add_region(map, region))
            return false;
    }
    return map->n_spans > 0;
}

/* ---- sharing out ------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The first span over [begin, end), which no edge cuts; NULL: none. */
static const Span *first_over(const Map *map, int64_t begin, int64_t end)
{
    for (int32_t i = 0; i < map->n_spans; i++)
        if (map->span[i].begin <= begin && end <= map->span[i].end)
            return &map->span[i];
    return NULL;
}

static void share_out(Map *map)
{
    int32_t n = 2 * map->n_spans;
    for (int32_t i = 0; i < map->n_spans; i++) {
        map->edge[2 * i] = map->span[i].begin;
        map->edge[2 * i + 1] = map->span[i].end;
    }
    qsort(map->edge, (size_t)n, sizeof *map->edge, by_place);
    for (int32_t i = 0; i + 1 < n; i++) {
        int64_t begin = map->edge[i], end = map->edge[i + 1];
        const Span *span = begin < end ? first_over(map, begin, end) : NULL;
        if (span)
            map->group[span->group].bytes += end - begin;
    }
}

/* ---- the result -------------------------------------------------------------------------- */

/* NULL when memory is short. */
static json_t *groups_json(const Map *map)
{
    json_t *groups = json_array();
    for (int32_t i = 0; i < map->n_groups; i++)
        json_array_append_new(groups, json_pack("{s:s, s:I, s:I}", "name", map->group[i].name,
                                                "bytes", (json_int_t)map->group[i].bytes, "own",
                                                (json_int_t)map->group[i].own));
    if (json_array_size(groups) == (size_t)map->n_groups)
        return groups;
    json_decref(groups);
    return NULL;
}

static json_t *count_or_null(const json_t *plan, const char *key)
{
    json_t *value = json_object_get(plan, key);
    bool is_count = json_is_integer(value) && json_integer_value(value) > 0;
    return is_count ? json_incref(value) : json_null();
}

Err memory_groups(const Folder *folder, json_t **out)
{
    const json_t *plan = folder->plan;
    *out = NULL;
    Map *map = calloc(1, sizeof *map);
    if (!map)
        FAIL(ERR_SYSTEM, "out of memory for the memory plan");
    bool is_plan = plan && read_regions(map, json_object_get(plan, "regions"));
    if (is_plan) {
        share_out(map);
        *out = json_pack("{s:o, s:o, s:o, s:o}", "groups", groups_json(map), "total",
                         count_or_null(plan, "total_bytes"), "limit",
                         count_or_null(plan, "limit_bytes"), "host",
                         count_or_null(plan, "host_bytes"));
    }
    free(map);
    if (is_plan && !*out)
        FAIL(ERR_SYSTEM, "out of memory for the memory plan");
    return OK;
}
