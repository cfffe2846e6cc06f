/* The extended routing table against a plain search through all prefixes. */
#include <string.h>

#include "check.h"
#include "table.h"

#define MOST 3000

static uint32_t state = 12345;

static uint32_t random32(void)
{
    uint32_t out = 0;
    for (int i = 0; i < 4; i++) {
        state = state * 1664525 + 1013904223;
        out = out << 8 | state >> 24;
    }
    return out;
}

static uint32_t mask_of(unsigned bits)
{
    return bits == 0 ? 0 : UINT32_MAX << (32 - bits);
}

static int by_prefix(const void *a, const void *b)
{
    const qbb_way *x = a, *y = b;
    if (x->prefix != y->prefix)
        return x->prefix < y->prefix ? -1 : 1;
    return (x->bits > y->bits) - (x->bits < y->bits);
}

/* The position of the first way of the longest prefix, or -1. */
static int expected(const qbb_way *ways, size_t count, uint32_t destination)
{
    int found = -1;
    for (size_t i = 0; i < count; i++)
        if ((destination & mask_of(ways[i].bits)) == ways[i].prefix && (found < 0 || ways[i].bits > ways[found].bits))
            found = (int)i;
    return found;
}

static void check_one(const qbb_table *table, const qbb_way *ways, size_t count, uint32_t destination)
{
    const qbb_way *found = qbb_table_find(table, destination);
    int position = expected(ways, count, destination);
    CHECK((found == NULL) == (position < 0));
    if (position < 0)
        return;
    for (;; position++, found++) {
        CHECK_EQUAL(found->prefix, ways[position].prefix);
        CHECK_EQUAL(found->bits, ways[position].bits);
        CHECK_EQUAL(found->link, ways[position].link);
        int last = position + 1 == (int)count || by_prefix(ways + position, ways + position + 1) != 0;
        CHECK_EQUAL((found->flags & QBB_WAY_LAST) != 0, last);
        if (last)
            return;
    }
}

/* Random ways in a small corner of the address space (so that they nest), one in four from everywhere. */
static size_t random_ways(qbb_way *ways, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned bits = random32() % 33;
        uint32_t address = random32() % 4 ? 0x01010000 | (random32() & 0xff) : random32();
        ways[i] = (qbb_way){.prefix = address & mask_of(bits), .bits = (uint8_t)bits, .link = (int16_t)(random32() % 5),
            .cost = random32(), .flags = QBB_WAY_LAST | QBB_WAY_BEST};
    }
    qsort(ways, count, sizeof *ways, by_prefix);
    return count;
}

static void against_search(size_t most)
{
    static qbb_way ways[MOST];
    size_t count = random_ways(ways, random32() % (most + 1));
    void *memory = malloc(qbb_table_bytes(count)); /* exactly: the sanitizer sees the rest */
    const qbb_table *table = qbb_table_build(memory, ways, count, 5);
    CHECK(table != NULL);
    check_one(table, ways, count, 0);
    check_one(table, ways, count, UINT32_MAX);
    for (size_t i = 0; i < count; i++) {
        uint32_t first = ways[i].prefix, last = first | ~mask_of(ways[i].bits);
        const uint32_t near[] = {first - 1, first, first + 1, last - 1, last, last + 1};
        for (size_t k = 0; k < sizeof near / sizeof *near; k++)
            check_one(table, ways, count, near[k]);
    }
    for (int i = 0; i < 200; i++)
        check_one(table, ways, count, i % 2 ? random32() : 0x01010000 | (random32() & 0x1ff));
    free(memory);
}

static void refusals(void)
{
    static uint64_t memory[1024];
    static const struct { const char *what; qbb_way ways[2]; size_t count; } wrong[] = {
        {"link", {{0, 0, 0, 3, 0}}, 1},
        {"link", {{0, 0, 0, -2, 0}}, 1},
        {"length", {{0, 33, 0, 0, 0}}, 1},
        {"bits behind the prefix", {{0x01010101, 24, 0, 0, 0}}, 1},
        {"order of prefixes", {{0x02000000, 8, 0, 0, 0}, {0x01000000, 8, 0, 0, 0}}, 2},
        {"order of lengths", {{0x01000000, 16, 0, 0, 0}, {0x01000000, 8, 0, 0, 0}}, 2},
        {"here and elsewhere", {{0x01000000, 8, 0, 0, 0}, {0x01000000, 8, 0, -1, 0}}, 2},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (qbb_table_build(memory, wrong[i].ways, wrong[i].count, 3) != NULL) {
            fprintf(stderr, "a wrong %s was taken\n", wrong[i].what);
            exit(1);
        }
    CHECK(qbb_table_build(memory, wrong[0].ways, 1, QBB_LINKS_MAX + 1) == NULL);
    CHECK(qbb_table_build(memory, wrong[0].ways, 1, 4) != NULL);
    CHECK_EQUAL(qbb_table_bytes(QBB_TABLE_MAX + 1), 0);
}

int main(void)
{
    for (int i = 0; i < 300; i++)
        against_search(12);
    for (int i = 0; i < 20; i++)
        against_search(200);
    against_search(MOST);
    refusals();
    return 0;
}
