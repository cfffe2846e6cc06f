/* Waiting packets: priorities, order, bounds, and that nothing of a packet stays behind. */
#include <string.h>

#include "check.h"
#include "mirror.h"
#include "queue.h"

#define SLOTS 8

static qbb_queue queue;
static qbb_waiting *slots;

static void fresh(void)
{
    free(slots);
    slots = zeroed(SLOTS * sizeof *slots);
    qbb_queue_init(&queue, slots, SLOTS);
}

/* A packet whose payload is `length` times `value`, its second half padded, pad_a `length / 2` times the complement. */
static int put(uint8_t priority, uint8_t value, uint16_t length, int split)
{
    uint8_t payload[QBB_PAYLOAD_MAX], pad[QBB_PAYLOAD_MAX];
    qbb_waiting_fields fields = {.priority = priority, .channel = 16, .command = QBB_COMMAND_DATA, .length = length,
        .clear = length / 2};
    memset(payload, value, sizeof payload);
    memset(pad, ~value, sizeof pad);
    return qbb_queue_put(&queue, &fields, payload, split ? pad : NULL);
}

static uint8_t first_value(void)
{
    qbb_waiting *first = qbb_queue_first(&queue);
    CHECK(first != NULL);
    return first->bytes[QBB_PREAMBLE_BYTES];
}

static void priorities(void)
{
    static const uint8_t order[] = {70, 30, 31, 32, 20, 0};
    fresh();
    CHECK(qbb_queue_first(&queue) == NULL);
    put(3, 30, 10, 0);
    put(0, 0, 10, 0);
    put(3, 31, 10, 1);
    put(7, 70, 10, 0);
    put(2, 20, 10, 0);
    put(3, 32, 10, 0);
    for (size_t i = 0; i < sizeof order; i++) {
        CHECK(queue.waiting == sizeof order - i);
        CHECK(first_value() == order[i]);
        qbb_queue_drop_first(&queue);
    }
    CHECK(qbb_queue_first(&queue) == NULL && queue.waiting == 0 && queue.occupied == 0);
}

/* Traffic is not control's; half of each packet is padded, and each takes a mask. */
static void words_of_control(void)
{
    fresh();
    CHECK(queue.control_words == 0);
    put(5, 50, 32, 0);
    CHECK(queue.control_words == 0);
    put(6, 60, 32, 0);
    put(7, 70, 18, 1);
    CHECK(queue.control_words == (2 + 2) + (2 + 2));
    qbb_queue_drop_first(&queue);
    CHECK(queue.control_words == 2 + 2);
    qbb_queue_clear(&queue);
    CHECK(queue.control_words == 0);
}

static void bounds(void)
{
    fresh();
    for (uint8_t i = 0; i < SLOTS; i++)
        CHECK(put(i % 8, i, 1, 0));
    CHECK(!put(7, 99, 1, 0) && queue.waiting == SLOTS && first_value() == 7);
    qbb_queue_drop_first(&queue);
    CHECK(put(7, 98, 1, 0) && !put(7, 99, 1, 0) && first_value() == 98);
}

static void contents(void)
{
    fresh();
    put(4, 0x5a, QBB_PAYLOAD_MAX, 1);
    const qbb_waiting *waiting = qbb_queue_first(&queue);
    for (int i = 0; i < QBB_PAYLOAD_MAX; i++)
        CHECK(waiting->bytes[QBB_PREAMBLE_BYTES + i] == 0x5a);
    for (int i = 0; i < QBB_PAYLOAD_MAX / 2; i++)
        CHECK(qbb_waiting_pad(waiting)[i] == 0xa5);
    put(4, 1, 4, 0);
    qbb_queue_drop_first(&queue);
    CHECK(qbb_waiting_pad(qbb_queue_first(&queue)) == NULL);
}

static int slots_wiped(void)
{
    for (int i = 0; i < SLOTS; i++)
        if (!all_zero(slots[i].bytes, sizeof slots[i].bytes) || slots[i].is.length != 0)
            return 0;
    return 1;
}

static void wiped(void)
{
    fresh();
    uint64_t random = 3;
    for (int i = 0; i < 2000; i++) {
        put((uint8_t)(next_random(&random) % 8), 0xff, (uint16_t)(next_random(&random) % (QBB_PAYLOAD_MAX + 1)), i & 1);
        if (next_random(&random) % 2 && queue.waiting)
            qbb_queue_drop_first(&queue);
        CHECK(queue.waiting != 0 || slots_wiped());
    }
    uint32_t waiting = queue.waiting;
    CHECK(waiting != 0 && !slots_wiped() && qbb_queue_clear(&queue) == waiting && slots_wiped());
    for (int i = 0; i < SLOTS; i++)
        CHECK(put(1, 1, 1, 0)); /* all slots came back */
}

int main(void)
{
    priorities();
    words_of_control();
    bounds();
    contents();
    wiped();
    return 0;
}
