/* The receiver's window: a numbered table of its boundaries, counters beyond 32 bits, wiping; and the numbers that
 * arrived. */
#include <string.h>

#include "arrivals.h"
#include "check.h"
#include "mirror.h"
#include "window.h"

#define BUFFER 1024
#define WINDOW 512

static qbb_window window;
static uint8_t *memory;

/* A window whose stream stands at `start`, with `loaded` words from there on. */
static void fresh(uint64_t start, uint64_t loaded)
{
    static uint64_t bitmap[WINDOW / 64];
    if (memory != NULL)
        unmirrored(memory, BUFFER * 8);
    memory = mirrored(BUFFER * 8);
    memset(bitmap, 0, sizeof bitmap);
    window = (qbb_window){.buf = {.base = memory, .size_words = BUFFER, .floor = start, .loaded = start},
        .taken = bitmap, .bitmap_words = WINDOW, .window_words = WINDOW, .highest = start};
    memset(qbb_keybuf_reserve(&window.buf, loaded), 0xaa, loaded * 8);
    qbb_keybuf_commit(&window.buf, loaded);
}

/* The stream holds words [0, 700). First one span is taken (0 words: none), then the question is whether another one is
 * available, and where the floor stands. */
static const struct { int number; uint64_t first, words, ask, ask_words; int available; uint64_t floor; } table[] = {
    { 1,   0,   0,   0,   1, 1,   0},
    { 2,   0,   0,   0, 700, 1,   0},
    { 3,   0,   0,   0, 701, 0,   0},  /* not loaded */
    { 4,   0,   0, 699,   1, 1,   0},
    { 5,   0,   0, 700,   1, 0,   0},
    { 6,   0,   0, 701,   1, 0,   0},
    { 7,  10,   5,   9,   1, 1,   0},  /* around a taken span */
    { 8,  10,   5,  10,   1, 0,   0},
    { 9,  10,   5,  14,   1, 0,   0},
    {10,  10,   5,  15,   1, 1,   0},
    {11,  10,   5,   0,  11, 0,   0},
    {12,  10,   5,   0,  10, 1,   0},
    {13,  60,   8,  59,   1, 1,   0},  /* over a group of the bitmap */
    {14,  60,   8,  63,   1, 0,   0},
    {15,  60,   8,  64,   1, 0,   0},
    {16,  60,   8,  67,   1, 0,   0},
    {17,  60,   8,  68,   1, 1,   0},
    {18, 502,  10,   0,   1, 1,   0},  /* its end at the window: the floor stays */
    {19, 503,  10,   0,   1, 0,   1},  /* one word further: word 0 is gone */
    {20, 503,  10,   1,   1, 1,   1},
    {21, 690,  10, 187,   1, 0, 188},  /* far ahead */
    {22, 690,  10, 188,   1, 1, 188},
    {23, 690,  10, 689,   1, 1, 188},
    {24, 690,  10, 690,   1, 0, 188},
    {25, 690,  10, 188, 502, 1, 188},
    {26, 690,  10, 188, 503, 0, 188},
};

static void boundaries(void)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        fresh(0, 700);
        if (table[i].words != 0) {
            CHECK(qbb_window_available(&window, table[i].first, table[i].words));
            qbb_window_take(&window, table[i].first, table[i].words);
        }
        int available = qbb_window_available(&window, table[i].ask, table[i].ask_words);
        if (available != table[i].available || window.buf.floor != table[i].floor) {
            fprintf(stderr, "boundary %d: available %d, floor %llu\n", table[i].number, available,
                (unsigned long long)window.buf.floor);
            exit(1);
        }
    }
}

/* 32-bit offsets stand for the counter at or above the floor, wherever 2^32 falls. */
static void restore(void)
{
    const uint64_t wrap = (uint64_t)1 << 32;
    static const int64_t starts[] = {-1000, -300, -1, 0, 1, 300};
    for (uint64_t turn = 1; turn < 4; turn++)
        for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
            uint64_t start = turn * wrap + (uint64_t)starts[i];
            fresh(start, 600);
            for (uint64_t word = start; word < start + 600; word++)
                CHECK(qbb_window_restore(&window, (uint32_t)word) == word);
            /* One below the floor becomes one far above: not available. */
            uint64_t below = qbb_window_restore(&window, (uint32_t)(start - 1));
            CHECK(below == start - 1 + wrap && !qbb_window_available(&window, below, 1));
            CHECK(!qbb_window_available(&window, UINT64_MAX - 1, 3));
            for (uint64_t word = start; word < start + 600; word += 6) {
                CHECK(qbb_window_available(&window, word, 6));
                qbb_window_take(&window, word, 6);
                CHECK(!qbb_window_available(&window, word, 1) && !qbb_window_available(&window, word + 5, 1));
            }
            CHECK(window.buf.floor == start + 600 - WINDOW && all_zero(memory, 2 * BUFFER * 8));
        }
}

/* Against a list of words kept by hand, over many turns of ring and bitmap. */
static void random_walk(void)
{
    static uint8_t taken[1 << 20];
    uint64_t random = 7, floor = 0, highest = 0, loaded = 600, count = 0;
    fresh(0, 600);
    memset(taken, 0, sizeof taken);
    for (int step = 0; step < 30000; step++) {
        uint64_t first = floor + next_random(&random) % 640, words = 1 + next_random(&random) % 90;
        int expected = first + words <= loaded;
        for (uint64_t w = first; w < first + words; w++)
            expected &= !taken[w];
        CHECK(qbb_window_available(&window, first, words) == expected);
        CHECK(qbb_window_taken(&window, first) == (taken[first] && first < highest));
        if (expected) {
            qbb_window_take(&window, first, words);
            memset(taken + first, 1, words);
            highest = first + words > highest ? first + words : highest;
            floor = highest > floor + WINDOW ? highest - WINDOW : floor;
        }
        if (next_random(&random) % 40 == 0) { /* the log closes a chunk */
            uint64_t word = floor + next_random(&random) % 700;
            qbb_window_raise(&window, word);
            floor = word > loaded ? loaded : word > floor ? word : floor;
        }
        CHECK(window.buf.floor == floor);
        while (loaded - floor + 64 <= BUFFER) {
            memset(qbb_keybuf_reserve(&window.buf, 64), 0xaa, 512);
            qbb_keybuf_commit(&window.buf, 64);
            loaded += 64;
        }
        count = 0;
        for (uint64_t w = floor; w < loaded; w++) {
            count += taken[w];
            CHECK(*qbb_keybuf_at(&window.buf, w) == (taken[w] ? 0 : 0xaa));
        }
        CHECK(window.taken_words == count);
        if (loaded > sizeof taken - 4096)
            break;
    }
    CHECK(loaded > 50000);
}

/* A word below the floor, taken or not, is wiped. */
static void raise_wipes(void)
{
    fresh(0, 700);
    qbb_window_take(&window, 5, 3);
    qbb_window_raise(&window, 650);
    CHECK(all_zero(memory, 650 * 8) && memory[650 * 8] == 0xaa && window.taken_words == 0);
    qbb_window_reset(&window);
    CHECK(all_zero(memory, 2 * BUFFER * 8) && window.buf.floor == 0 && window.buf.loaded == 0 && window.highest == 0);
}

static qbb_arrivals arrivals;

static enum qbb_arrival ask(uint64_t number)
{
    uint64_t restored = 0;
    enum qbb_arrival arrival = qbb_arrivals_classify(&arrivals, (uint32_t)number, &restored);
    CHECK(arrival != QBB_ARRIVAL_NEW || restored == number);
    return arrival;
}

static void numbers(void)
{
    qbb_arrivals_reset(&arrivals);
    CHECK(ask(1) == QBB_ARRIVAL_NEW && ask(QBB_NUMBERS_AHEAD) == QBB_ARRIVAL_NEW);
    CHECK(ask(QBB_NUMBERS_AHEAD + 1) == QBB_ARRIVAL_FAR && ask(1u << 31) == QBB_ARRIVAL_FAR);
    qbb_arrivals_add(&arrivals, 2);
    CHECK(arrivals.cumulative == 0 && qbb_arrivals_bitmap(&arrivals) == 2);
    CHECK(ask(2) == QBB_ARRIVAL_OLD && ask(1) == QBB_ARRIVAL_NEW && ask(3) == QBB_ARRIVAL_NEW);
    qbb_arrivals_add(&arrivals, 32);
    CHECK(qbb_arrivals_bitmap(&arrivals) == (2 | 1u << 31));
    qbb_arrivals_add(&arrivals, 33);
    CHECK(qbb_arrivals_bitmap(&arrivals) == (2 | 1u << 31));
    qbb_arrivals_add(&arrivals, 1);
    CHECK(arrivals.cumulative == 2 && qbb_arrivals_bitmap(&arrivals) == 3u << 29);
    /* A place in the bitmap is clean when its next number comes round. */
    for (uint64_t n = 3; n < 3 * QBB_NUMBERS_AHEAD; n++) {
        CHECK(n == 32 || n == 33 || ask(n) == QBB_ARRIVAL_NEW);
        if (ask(n) == QBB_ARRIVAL_NEW)
            qbb_arrivals_add(&arrivals, n);
        CHECK(ask(n) == QBB_ARRIVAL_OLD && ask(n - 1) == QBB_ARRIVAL_OLD);
    }
    CHECK(arrivals.cumulative == 3 * QBB_NUMBERS_AHEAD - 1);
}

/* Numbers beyond 32 bits: 2^32 itself is never given (0 on the wire) and counts as arrived. */
static void numbers_wrap(void)
{
    const uint64_t wrap = (uint64_t)1 << 32;
    for (int order = 0; order < 2; order++) {
        qbb_arrivals_reset(&arrivals);
        arrivals.cumulative = wrap - 3;
        CHECK(ask(wrap - 3) == QBB_ARRIVAL_OLD && ask(wrap - 2) == QBB_ARRIVAL_NEW && ask(wrap + 1) == QBB_ARRIVAL_NEW);
        if (order)
            qbb_arrivals_add(&arrivals, wrap + 1);
        qbb_arrivals_add(&arrivals, wrap - 2);
        CHECK(arrivals.cumulative == wrap - 2);
        qbb_arrivals_add(&arrivals, wrap - 1);
        CHECK(arrivals.cumulative == (order ? wrap + 1 : wrap));
        CHECK(ask(wrap - 1) == QBB_ARRIVAL_OLD && ask(wrap + 2) == QBB_ARRIVAL_NEW);
    }
    /* The bitmap at each place of a group, against the numbers themselves. */
    for (uint64_t start = wrap - 200; start < wrap + 200; start++) {
        qbb_arrivals_reset(&arrivals);
        arrivals.cumulative = start;
        for (unsigned i = 1; i < 32; i += 3)
            qbb_arrivals_add(&arrivals, start + 1 + i);
        for (unsigned i = 0; i < 32 && arrivals.cumulative == start; i++)
            CHECK((qbb_arrivals_bitmap(&arrivals) >> i & 1) == (i % 3 == 1));
    }
}

int main(void)
{
    boundaries();
    restore();
    random_walk();
    raise_wipes();
    numbers();
    numbers_wrap();
    return 0;
}
