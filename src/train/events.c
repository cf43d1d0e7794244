#include "train/events.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"

enum { MAX_SCALARS = 16, MAX_TAG_BYTES = 64, EVENT_BYTES = 2048 };

/* ---- protocol buffers -------------------------------------------------------------------- */

/* A message being put together; its room is enough for all there is to say here. */
typedef struct {
    uint8_t data[EVENT_BYTES];
    size_t n_bytes;
} Message;

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put_byte(Message *m, uint8_t byte)
{
    ASSERT(m->n_bytes < sizeof m->data, "an event of more than %d bytes", EVENT_BYTES);
    m->data[m->n_bytes++] = byte;
}

static void put_varint(Message *m, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        put_byte(m, (uint8_t)(value | 0x80));
    put_byte(m, (uint8_t)value);
}

static void put_little_endian(Message *m, uint64_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++)
        put_byte(m, (uint8_t)(value >> (8 * i)));
}

static void put_key(Message *m, uint32_t field, uint32_t wire)
{
    put_varint(m, field << 3 | wire);
}

static void put_integer(Message *m, uint32_t field, int64_t value)
{
    put_key(m, field, WIRE_VARINT);
    put_varint(m, (uint64_t)value);
}

static void put_double(Message *m, uint32_t field, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(m, field, WIRE_64);
    put_little_endian(m, bits, sizeof bits);
}

static void put_float(Message *m, uint32_t field, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(m, field, WIRE_32);
    put_little_endian(m, bits, sizeof bits);
}

static void put_bytes(Message *m, uint32_t field, const void *data, size_t n_bytes)
{
    const uint8_t *byte = data;
    put_key(m, field, WIRE_BYTES);
    put_varint(m, n_bytes);
    for (size_t i = 0; i < n_bytes; i++)
        put_byte(m, byte[i]);
}

/* ---- what TensorBoard reads -------------------------------------------------------------- */

enum {
    EVENT_WALL_TIME = 1,
    EVENT_STEP = 2,
    EVENT_VERSION = 3,
    EVENT_SUMMARY = 5,
    EVENT_SESSION = 7
};
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE = 2, SESSION_STATUS = 1, SESSION_START = 1 };

static double wall_time(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void begin_event(Message *m, int64_t step)
{
    m->n_bytes = 0;
    put_double(m, EVENT_WALL_TIME, wall_time());
    put_integer(m, EVENT_STEP, step);
}

static void add_scalar(Message *summary, const Scalar *scalar)
{
    Message value = {.n_bytes = 0};
    size_t n_tag = strlen(scalar->tag);
    ASSERT(n_tag <= MAX_TAG_BYTES, "%s", scalar->tag);
    put_bytes(&value, VALUE_TAG, scalar->tag, n_tag);
    put_float(&value, VALUE_SIMPLE, (float)scalar->value);
    put_bytes(summary, SUMMARY_VALUE, value.data, value.n_bytes);
}

/* ---- records ----------------------------------------------------------------------------- */

/* CRC-32C, reflected; masked as TensorFlow does, for checksums of data that holds checksums. */
static uint32_t masked_crc(const uint8_t *data, size_t n_bytes)
{
    const uint32_t POLYNOMIAL = 0x82F63B78, MASK = 0xA282EAD8;
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n_bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (POLYNOMIAL & (0 - (crc & 1)));
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + MASK;
}

static bool write_record(Events *events, const Message *m)
{
    Message head = {.n_bytes = 0}, tail = {.n_bytes = 0};
    put_little_endian(&head, m->n_bytes, 8);
    put_little_endian(&head, masked_crc(head.data, 8), 4);
    put_little_endian(&tail, masked_crc(m->data, m->n_bytes), 4);
    return fwrite(head.data, 1, head.n_bytes, events->file) == head.n_bytes &&
           fwrite(m->data, 1, m->n_bytes, events->file) == m->n_bytes &&
           fwrite(tail.data, 1, tail.n_bytes, events->file) == tail.n_bytes &&
           fflush(events->file) == 0;
}

/* ---- the file ---------------------------------------------------------------------------- */

static bool write_start(Events *events, int64_t from_step)
{
    static const char VERSION[] = "brain.Event:2";
    Message m, session = {.n_bytes = 0};
    begin_event(&m, 0);
    put_bytes(&m, EVENT_VERSION, VERSION, sizeof VERSION - 1);
    if (!write_record(events, &m))
        return false;
    if (from_step == 0)
        return true;
    begin_event(&m, from_step);
    put_integer(&session, SESSION_STATUS, SESSION_START);
    put_bytes(&m, EVENT_SESSION, session.data, session.n_bytes);
    return write_record(events, &m);
}

Err events_open(Events *events, const char *dir, int64_t from_step)
{
    char path[FILE_PATH_BYTES], name[128], host[64] = "host";
    *events = (Events){0};
    gethostname(host, sizeof host - 1);
    snprintf(name, sizeof name, "events.out.tfevents.%lld.%.60s.%d", (long long)time(NULL), host,
             (int)getpid());
    TRY(path_join(path, dir, name));
    events->file = fopen(path, "ab");
    if (events->file && write_start(events, from_step))
        return OK;
    Err err = ERR_NEW(ERR_WRITE, "%s: cannot be written: %s", path, strerror(errno));
    events_close(events);
    return err;
}

bool events_write(Events *events, int64_t step, const Scalar *scalar, int32_t n)
{
    Message m, summary = {.n_bytes = 0};
    ASSERT(n <= MAX_SCALARS, "%d scalars", n);
    for (int32_t i = 0; i < n; i++)
        if (isfinite(scalar[i].value))
            add_scalar(&summary, &scalar[i]);
    begin_event(&m, step);
    put_bytes(&m, EVENT_SUMMARY, summary.data, summary.n_bytes);
    return write_record(events, &m);
}

void events_close(Events *events)
{
    if (events->file)
        fclose(events->file);
    *events = (Events){0};
}
