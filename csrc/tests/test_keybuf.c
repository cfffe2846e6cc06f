/* The key buffer: a mirrored ring of words, wiped from below. */
#include <string.h>

#include "check.h"
#include "keybuf.h"
#include "mirror.h"

#define WORDS 512

static qbb_keybuf fresh(void)
{
    static uint8_t *memory;
    if (memory != NULL)
        unmirrored(memory, WORDS * 8);
    memory = mirrored(WORDS * 8);
    return (qbb_keybuf){.base = memory, .size_words = WORDS};
}

static void load(qbb_keybuf *buf, uint64_t words, uint8_t value)
{
    uint8_t *place = qbb_keybuf_reserve(buf, words);
    CHECK(place != NULL);
    memset(place, value, words * 8);
    qbb_keybuf_commit(buf, words);
}

static void room(void)
{
    qbb_keybuf buf = fresh();
    CHECK(qbb_keybuf_reserve(&buf, WORDS + 1) == NULL);
    CHECK(qbb_keybuf_reserve(&buf, UINT64_MAX) == NULL);
    CHECK(qbb_keybuf_reserve(&buf, WORDS) == buf.base);
    load(&buf, WORDS - 1, 1);
    CHECK(qbb_keybuf_reserve(&buf, 2) == NULL);
    load(&buf, 1, 1);
    CHECK(qbb_keybuf_reserve(&buf, 1) == NULL);
    qbb_keybuf_drop_below(&buf, 1);
    CHECK(qbb_keybuf_reserve(&buf, 1) == buf.base);
    CHECK(qbb_keybuf_reserve(&buf, 2) == NULL);
}

/* A span over the end of the ring is contiguous, and what is written through one half is seen in the other. */
static void mirror(void)
{
    qbb_keybuf buf = fresh();
    load(&buf, WORDS - 3, 0x11);
    qbb_keybuf_drop_below(&buf, WORDS - 3);
    load(&buf, 10, 0x22);
    const uint8_t *span = qbb_keybuf_at(&buf, WORDS - 3);
    for (int i = 0; i < 80; i++)
        CHECK(span[i] == 0x22);
    for (int i = 0; i < 56; i++)
        CHECK(buf.base[i] == 0x22);
    CHECK(buf.base[56] == 0);
    qbb_keybuf_drop_below(&buf, WORDS + 2);
    CHECK(all_zero(span, 40) && !all_zero(span + 40, 8));
    CHECK(all_zero(buf.base, 16) && buf.base[16] == 0x22);
}

static void drop_wipes(void)
{
    qbb_keybuf buf = fresh();
    load(&buf, 100, 0x33);
    qbb_keybuf_drop_below(&buf, 40);
    CHECK(buf.floor == 40 && all_zero(buf.base, 320) && buf.base[320] == 0x33);
    qbb_keybuf_drop_below(&buf, 10); /* never back */
    CHECK(buf.floor == 40);
    qbb_keybuf_drop_below(&buf, 1000); /* never beyond what is loaded */
    CHECK(buf.floor == 100 && all_zero(buf.base, 2 * WORDS * 8));
}

/* A chunk that was copied in, but not committed, goes as well. */
static void reset_wipes_all(void)
{
    qbb_keybuf buf = fresh();
    load(&buf, 100, 0x44);
    memset(qbb_keybuf_reserve(&buf, 50), 0x55, 400);
    qbb_keybuf_reset(&buf);
    CHECK(buf.loaded == 0 && buf.floor == 0 && all_zero(buf.base, 2 * WORDS * 8));
}

int main(void)
{
    room();
    mirror();
    drop_wipes();
    reset_wipes_all();
    return 0;
}
