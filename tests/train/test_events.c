/* TensorBoard's files, read back by a reader of this test's own. That TensorBoard reads them, too,
 * is looked at by tests/e2e/test_tensorboard.sh. */
#include "train/events.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"

typedef struct {
    uint8_t *data;
    size_t n_bytes, at;
} Bytes;

/* The one file of events in the folder; the caller frees. */
static Bytes read_file(Temp *t)
{
    char **names;
    int32_t n;
    Bytes b = {0};
    check_no_err(dir_list(t->dir, &names, &n));
    assert_int_equal(n, 1);
    assert_true(strncmp(names[0], "events.out.tfevents.", 20) == 0);
    check_no_err(file_read_text(temp_path(t, names[0]), 1 << 20, (char **)&b.data, &b.n_bytes));
    dir_list_free(names, n);
    return b;
}

static uint64_t little_endian(Bytes *b, int n)
{
    uint64_t value = 0;
    assert_true(b->at + (size_t)n <= b->n_bytes);
    for (int i = 0; i < n; i++)
        value |= (uint64_t)b->data[b->at++] << (8 * i);
    return value;
}

/* CRC-32C by long division, highest bit of the reflected remainder first. */
static uint32_t masked(const uint8_t *data, size_t n)
{
    uint32_t rest = 0xFFFFFFFF;
    for (size_t i = 0; i < 8 * n; i++) {
        uint32_t bit = (data[i / 8] >> (i % 8) ^ rest) & 1;
        rest = rest >> 1 ^ (bit ? 0x82F63B78 : 0);
    }
    rest ^= 0xFFFFFFFF;
    return (rest >> 15 | rest << 17) + 0xA282EAD8;
}

/* The next record, its checksums looked at. */
static Bytes next_record(Bytes *file)
{
    const uint8_t *head = file->data + file->at;
    uint64_t n = little_endian(file, 8);
    assert_int_equal(little_endian(file, 4), masked(head, 8));
    Bytes record = {file->data + file->at, n, 0};
    file->at += n;
    assert_int_equal(little_endian(file, 4), masked(record.data, n));
    return record;
}

static uint64_t varint(Bytes *b)
{
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        uint64_t byte = little_endian(b, 1);
        value |= (byte & 127) << shift;
        if (byte < 128)
            return value;
    }
}

/* The next field of a message: its number, and its value or its bytes. */
static uint32_t field(Bytes *b, uint64_t *value, Bytes *bytes)
{
    uint64_t key = varint(b);
    switch (key & 7) {
    case 0:
        *value = varint(b);
        break;
    case 1:
        *value = little_endian(b, 8);
        break;
    case 5:
        *value = little_endian(b, 4);
        break;
    case 2: {
        uint64_t n = varint(b);
        *bytes = (Bytes){b->data + b->at, n, 0};
        b->at += n;
        assert_true(b->at <= b->n_bytes);
        break;
    }
    default:
        fail();
    }
    return (uint32_t)(key >> 3);
}

typedef struct {
    double wall_time;
    int64_t step;
    bool starts_session;
    char version[32];
    int n_values;
    struct {
        char tag[64];
        float value;
    } value[16];
} Event;

static void read_value(Bytes b, Event *event)
{
    uint64_t value = 0;
    Bytes bytes = {0};
    assert_int_equal(field(&b, &value, &bytes), 1);
    snprintf(event->value[event->n_values].tag, 64, "%.*s", (int)bytes.n_bytes,
             (const char *)bytes.data);
    assert_int_equal(field(&b, &value, &bytes), 2);
    uint32_t bits = (uint32_t)value;
    memcpy(&event->value[event->n_values++].value, &bits, sizeof bits);
}

static Event read_event(Bytes b)
{
    Event event = {0};
    uint64_t value = 0;
    Bytes bytes = {0};
    while (b.at < b.n_bytes)
        switch (field(&b, &value, &bytes)) {
        case 1:
            memcpy(&event.wall_time, &value, sizeof value);
            break;
        case 2:
            event.step = (int64_t)value;
            break;
        case 3:
            snprintf(event.version, sizeof event.version, "%.*s", (int)bytes.n_bytes,
                     (const char *)bytes.data);
            break;
        case 5:
            while (bytes.at < bytes.n_bytes) {
                Bytes one = {0};
                assert_int_equal(field(&bytes, &value, &one), 1);
                read_value(one, &event);
            }
            break;
        case 7:
            assert_int_equal(field(&bytes, &value, &bytes), 1);
            event.starts_session = value == 1;
            break;
        default:
            fail();
        }
    return event;
}

static void test_scalars_come_back(void **state)
{
    const Scalar scalars[] = {{"loss/step", 3.25}, {"optim/lr", 6e-4}, {"loss/val", NAN}};
    Events events;
    check_no_err(events_open(&events, ((Temp *)*state)->dir, 0));
    assert_true(events_write(&events, 300, scalars, 3));
    assert_true(events_write(&events, INT64_C(1) << 40, scalars, 1));
    events_close(&events);

    Bytes file = read_file(*state);
    Event first = read_event(next_record(&file)), second = read_event(next_record(&file)),
          third = read_event(next_record(&file));
    assert_int_equal(file.at, file.n_bytes);
    assert_string_equal(first.version, "brain.Event:2");
    assert_true(first.wall_time > 1.7e9);
    assert_int_equal(second.step, 300);
    assert_int_equal(second.n_values, 2); /* what is no number is left out */
    assert_string_equal(second.value[0].tag, "loss/step");
    assert_true(second.value[0].value == 3.25f);
    assert_string_equal(second.value[1].tag, "optim/lr");
    assert_true(second.value[1].value == 6e-4f);
    assert_true(third.step == INT64_C(1) << 40);
    free(file.data);
}

static void test_a_run_that_goes_on_says_from_where(void **state)
{
    Events events;
    check_no_err(events_open(&events, ((Temp *)*state)->dir, 70));
    events_close(&events);
    Bytes file = read_file(*state);
    assert_false(read_event(next_record(&file)).starts_session);
    Event session = read_event(next_record(&file));
    assert_true(session.starts_session);
    assert_int_equal(session.step, 70);
    free(file.data);
}

static void test_a_folder_that_is_not_there(void **state)
{
    Events events;
    check_err(events_open(&events, temp_path(*state, "nowhere"), 0), ERR_WRITE,
              "cannot be written");
    events_close(&events);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_scalars_come_back),
        TEST(test_a_run_that_goes_on_says_from_where),
        TEST(test_a_folder_that_is_not_there),
    };
    return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
