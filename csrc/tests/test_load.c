/* Equations 1 and 2 against the arithmetic, and the token bucket. */
#include "check.h"
#include "load.h"

#define INTERVAL ((uint64_t)QBB_LOAD_INTERVAL_NS)
#define START 7000000000ull

static int near(double a, double b)
{
    return a - b < 1e-9 && b - a < 1e-9;
}

static qbb_load with_supply(double window, double words_s)
{
    qbb_load load;
    qbb_load_init(&load, window, 0.9);
    load.supply_words_s = words_s;
    qbb_load_tick(&load, START);
    return load;
}

static void filters(void)
{
    qbb_load load = with_supply(4, 1000);
    double expected = 0;
    static const unsigned offered[] = {100, 50, 0, 300, 120, 0, 0, 90};
    for (unsigned i = 0; i < sizeof offered / sizeof *offered; i++) {
        qbb_load_offer(&load, offered[i]);
        qbb_load_tick(&load, START + (i + 1) * INTERVAL);
        expected = (1 - 1.0 / 4) * expected + offered[i] / (1000 * 0.1) / 4; /* 0.1 s */
        CHECK(near(load.load, expected));
    }
}

/* However often it is asked, and however many packets the words came in: only time counts. */
static void ticks_by_time(void)
{
    qbb_load one = with_supply(8, 500), many = with_supply(8, 500);
    for (unsigned i = 0; i < 30; i++) {
        uint64_t at = START + i * INTERVAL;
        qbb_load_offer(&one, 60);
        for (unsigned k = 0; k < 60; k++) {
            qbb_load_tick(&many, at + k * (INTERVAL / 60));
            qbb_load_offer(&many, 1);
        }
        qbb_load_tick(&one, at + INTERVAL);
        qbb_load_tick(&many, at + INTERVAL);
        CHECK(near(one.load, many.load));
    }
    CHECK(one.load > 1 && !qbb_load_calm(&one));
}

static void long_pauses(void)
{
    qbb_load woken = with_supply(5, 100), asleep = with_supply(5, 100);
    qbb_load_offer(&woken, 77);
    qbb_load_offer(&asleep, 77);
    for (unsigned i = 1; i <= 9; i++)
        qbb_load_tick(&woken, START + i * INTERVAL);
    qbb_load_tick(&asleep, START + 9 * INTERVAL + INTERVAL / 2);
    CHECK(near(woken.load, asleep.load) && asleep.load > 0);
    CHECK_EQUAL(asleep.begun_ns, START + 9 * INTERVAL);
    qbb_load_tick(&asleep, START + 1000000000000000ull); /* days */
    CHECK(near(asleep.load, 0));
}

static void without_supply(void)
{
    qbb_load load = with_supply(2, 0);
    qbb_load_tick(&load, START + INTERVAL);
    CHECK(near(load.load, 0) && qbb_load_calm(&load));
    qbb_load_offer(&load, 1);
    qbb_load_tick(&load, START + 2 * INTERVAL);
    CHECK(!qbb_load_calm(&load));
    qbb_load_tick(&load, START + 40 * INTERVAL); /* it is forgotten */
    CHECK(qbb_load_calm(&load));
    qbb_load_init(&load, 0.1, 0.9); /* a window below 1 would overshoot */
    CHECK(near(load.window, 1));
}

static void bucket(void)
{
    qbb_bucket b = {.interval_ns = 100, .burst = 3};
    uint64_t now = 5000;
    for (int i = 0; i < 3; i++)
        CHECK(qbb_bucket_take(&b, now));
    CHECK(!qbb_bucket_take(&b, now));
    CHECK(!qbb_bucket_take(&b, now + 99));
    CHECK(qbb_bucket_take(&b, now + 100));
    CHECK(!qbb_bucket_take(&b, now + 199));
    int taken = 0;
    for (uint64_t t = now + 200; t < now + 200 + 10000; t++)
        taken += qbb_bucket_take(&b, t);
    CHECK_EQUAL(taken, 100);
    now += 1000000;
    for (int i = 0; i < 3; i++)
        CHECK(qbb_bucket_take(&b, now)); /* full again, and no fuller */
    CHECK(!qbb_bucket_take(&b, now));
    qbb_bucket never = {.interval_ns = 100, .burst = 0};
    CHECK(!qbb_bucket_take(&never, now));
}

int main(void)
{
    filters();
    ticks_by_time();
    long_pauses();
    without_supply();
    bucket();
    return 0;
}
