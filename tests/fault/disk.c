#include "tests/fault/disk.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/rng.h"

enum { MAX_ENTRIES = 24, MAX_SNAPSHOTS = 64, MAX_NODES = 4096, NAME_BYTES = 64, PIECE = 64 };

typedef struct Node Node;

typedef struct {
    char name[NAME_BYTES];
    Node *node;
} Entry;

typedef struct {
    Entry entry[MAX_ENTRIES];
    int32_t n;
} Names;

struct Node {
    bool is_dir;
    /* a directory's names: as they are, as synced, and after each operation since */
    Names names, synced, snapshot[MAX_SNAPSHOTS];
    int32_t n_snapshots;
    uint8_t *data;
    size_t n_bytes, n_synced;
};

struct Disk {
    Node *node[MAX_NODES]; /* owned; [0] is the watched directory */
    int32_t n_nodes;
};

/* ---- the tree ---------------------------------------------------------------------------- */

static Node *new_node(Disk *disk, bool is_dir)
{
    assert_in_range(disk->n_nodes, 0, MAX_NODES - 1);
    Node *node = calloc(1, sizeof *node);
    assert_non_null(node);
    node->is_dir = is_dir;
    disk->node[disk->n_nodes++] = node;
    return node;
}

Disk *disk_new(void)
{
    Disk *disk = calloc(1, sizeof *disk);
    assert_non_null(disk);
    new_node(disk, true);
    return disk;
}

void disk_free(Disk *disk)
{
    for (int32_t i = 0; i < disk->n_nodes; i++) {
        free(disk->node[i]->data);
        free(disk->node[i]);
    }
    free(disk);
}

static int32_t find(const Names *names, const char *name)
{
    int32_t i = 0;
    while (i < names->n && strcmp(names->entry[i].name, name) != 0)
        i++;
    return i;
}

static void set_name(Names *names, const char *name, Node *node)
{
    int32_t i = find(names, name);
    assert_in_range(i, 0, MAX_ENTRIES - 1);
    names->n += i == names->n;
    snprintf(names->entry[i].name, NAME_BYTES, "%s", name);
    names->entry[i].node = node;
}

static void drop_name(Names *names, const char *name)
{
    int32_t i = find(names, name);
    assert_in_range(i, 0, names->n - 1);
    names->entry[i] = names->entry[--names->n];
}

/* The directory that holds the last name of path, which *name becomes. */
static Node *parent_of(const Disk *disk, const char *path, const char **name)
{
    Node *node = disk->node[0];
    for (const char *slash; (slash = strchr(path, '/')) != NULL; path = slash + 1) {
        char part[NAME_BYTES];
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        int32_t i = find(&node->names, part);
        assert_in_range(i, 0, node->names.n - 1);
        node = node->names.entry[i].node;
    }
    *name = path;
    return node;
}

static Node *node_of(const Disk *disk, const char *path)
{
    const char *name;
    Node *parent = parent_of(disk, path, &name);
    if (!*name)
        return parent;
    int32_t i = find(&parent->names, name);
    assert_in_range(i, 0, parent->names.n - 1);
    return parent->names.entry[i].node;
}

/* ---- operations -------------------------------------------------------------------------- */

static void take_snapshot(Node *dir)
{
    assert_in_range(dir->n_snapshots, 0, MAX_SNAPSHOTS - 1);
    dir->snapshot[dir->n_snapshots++] = dir->names;
}

static void sync_node(Node *node)
{
    node->synced = node->names;
    node->n_snapshots = 0;
    node->n_synced = node->n_bytes;
}

static void append(Node *file, const void *data, size_t n_bytes)
{
    file->data = realloc(file->data, file->n_bytes + n_bytes);
    assert_non_null(file->data);
    memcpy(file->data + file->n_bytes, data, n_bytes);
    file->n_bytes += n_bytes;
}

static void apply_rename(Disk *disk, const FaultOp *op)
{
    const char *from, *to;
    Node *node = node_of(disk, op->path), *old = parent_of(disk, op->path, &from),
         *parent = parent_of(disk, op->to, &to);
    drop_name(&old->names, from);
    set_name(&parent->names, to, node);
    take_snapshot(parent);
    if (old != parent)
        take_snapshot(old);
}

void disk_apply(Disk *disk, const FaultOp *op)
{
    const char *name;
    Node *parent = parent_of(disk, op->path, &name);
    switch (op->kind) {
    case OP_CREATE:
    case OP_MKDIR:
        set_name(&parent->names, name, new_node(disk, op->kind == OP_MKDIR));
        take_snapshot(parent);
        break;
    case OP_WRITE:
        append(node_of(disk, op->path), op->data, op->n_bytes);
        break;
    case OP_SYNC:
        sync_node(node_of(disk, op->path));
        break;
    case OP_RENAME:
        apply_rename(disk, op);
        break;
    case OP_REMOVE:
        drop_name(&parent->names, name);
        take_snapshot(parent);
        break;
    }
}

/* ---- the loss ---------------------------------------------------------------------------- */

typedef struct {
    DiskModel model;
    uint64_t seed, n_drawn;
} Loss;

/* 0 to n - 1. */
static uint64_t draw(Loss *loss, uint64_t n)
{
    return rng_block(loss->seed, RNG_INIT, 0, loss->n_drawn++).word[0] % n;
}

static const Names *names_left(Loss *loss, const Node *dir)
{
    if (loss->model == DISK_ALL || loss->model == DISK_NAMES)
        return &dir->names;
    uint64_t i = loss->model == DISK_RANDOM ? draw(loss, (uint64_t)dir->n_snapshots + 1) : 0;
    return i ? &dir->snapshot[i - 1] : &dir->synced;
}

/* Change the bytes behind what is synced; returns how many bytes are left. */
static size_t damage(Loss *loss, const Node *file, uint8_t *data)
{
    const size_t kept = file->n_synced, n = file->n_bytes;
    if (loss->model == DISK_ALL || kept == n)
        return n;
    if (loss->model == DISK_SYNCED)
        return kept;
    for (size_t at = kept; at < n; at += PIECE) {
        size_t part = n - at < PIECE ? n - at : PIECE;
        uint64_t fate = loss->model == DISK_RANDOM ? draw(loss, 3) : 1;
        if (fate)
            memset(data + at, fate == 1 ? 0 : 0xa5, part);
    }
    bool cut = loss->model == DISK_RANDOM && draw(loss, 2);
    return cut ? kept + draw(loss, n - kept + 1) : n;
}

static void write_left(Loss *loss, const Node *file, const char *path)
{
    uint8_t *data = malloc(file->n_bytes + 1);
    FILE *out = fopen(path, "wb");
    assert_true(data && out);
    if (file->n_bytes)
        memcpy(data, file->data, file->n_bytes);
    size_t left = damage(loss, file, data);
    assert_int_equal(fwrite(data, 1, left, out), left);
    assert_int_equal(fclose(out), 0);
    free(data);
}

static void materialise(Loss *loss, const Node *dir, const char *path)
{
    const Names *names = names_left(loss, dir);
    for (int32_t i = 0; i < names->n; i++) {
        char child[PATH_MAX];
        const Entry *entry = &names->entry[i];
        int used = snprintf(child, sizeof child, "%s/%s", path, entry->name);
        assert_in_range(used, 1, sizeof child - 1);
        if (entry->node->is_dir) {
            assert_int_equal(mkdir(child, 0777), 0);
            materialise(loss, entry->node, child);
        } else {
            write_left(loss, entry->node, child);
        }
    }
}

void disk_materialise(const Disk *disk, DiskModel model, uint64_t seed, const char *dir)
{
    Loss loss = {.model = model, .seed = seed};
    materialise(&loss, disk->node[0], dir);
}
