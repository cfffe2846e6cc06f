#include "table.h"

#include <string.h>

#define NO_WAY UINT32_MAX

/* Range i is [starts[i], starts[i + 1]) and has the ways from first[i] on. Behind this head: ways, starts, first. */
struct qbb_table {
    uint32_t ranges;
    uint32_t unused;
    uint32_t *starts, *first;
    qbb_way *ways;
};

/* A prefix begins and ends at most one range, and one stands before the first. */
static size_t ranges_most(size_t count)
{
    return 2 * count + 1;
}

size_t qbb_table_bytes(size_t count)
{
    if (count > QBB_TABLE_MAX)
        return 0;
    return sizeof(qbb_table) + count * sizeof(qbb_way) + 2 * ranges_most(count) * sizeof(uint32_t);
}

static uint32_t mask_of(unsigned bits)
{
    return bits == 0 ? 0 : UINT32_MAX << (32 - bits);
}

static int same_prefix(const qbb_way *a, const qbb_way *b)
{
    return a->prefix == b->prefix && a->bits == b->bits;
}

static int well_formed(const qbb_way *way, int link_count)
{
    return way->bits <= 32 && (way->prefix & ~mask_of(way->bits)) == 0
        && way->link >= QBB_WAY_LOCAL && way->link < link_count;
}

/* What is here is nowhere else. */
static int in_order(const qbb_way *a, const qbb_way *b)
{
    if (same_prefix(a, b))
        return a->link != QBB_WAY_LOCAL && b->link != QBB_WAY_LOCAL;
    return a->prefix < b->prefix || (a->prefix == b->prefix && a->bits < b->bits);
}

static int good(const qbb_way *ways, size_t count, int link_count)
{
    for (size_t i = 0; i < count; i++)
        if (!well_formed(ways + i, link_count) || (i > 0 && !in_order(ways + i - 1, ways + i)))
            return 0;
    return 1;
}

/* From this address on, these ways. */
static void cut(qbb_table *table, uint32_t start, uint32_t first)
{
    if (table->ranges > 0 && table->starts[table->ranges - 1] == start)
        table->ranges--; /* the range before is empty */
    table->starts[table->ranges] = start;
    table->first[table->ranges++] = first;
}

/* The prefixes that the sweep stands in, each inside the one before. */
typedef struct {
    unsigned depth;
    uint32_t end[33], first[33]; /* last address, ways */
} nest;

/* Leaves the prefixes that end before `start`: behind each of them its outer one goes on. */
static void leave(nest *n, qbb_table *table, uint64_t start)
{
    while (n->depth > 0 && n->end[n->depth - 1] < start) {
        uint32_t end = n->end[--n->depth];
        if (end != UINT32_MAX)
            cut(table, end + 1, n->depth > 0 ? n->first[n->depth - 1] : NO_WAY);
    }
}

static void sweep(qbb_table *table, size_t count)
{
    nest n = {0};
    cut(table, 0, NO_WAY);
    for (size_t i = 0; i < count; i++) {
        qbb_way *way = table->ways + i;
        int last = i + 1 == count || !same_prefix(way, way + 1);
        way->flags = (uint8_t)((way->flags & ~QBB_WAY_LAST) | (last ? QBB_WAY_LAST : 0));
        if (i > 0 && same_prefix(way - 1, way))
            continue;
        leave(&n, table, way->prefix);
        n.end[n.depth] = way->prefix | ~mask_of(way->bits);
        n.first[n.depth++] = (uint32_t)i;
        cut(table, way->prefix, (uint32_t)i);
    }
    leave(&n, table, (uint64_t)UINT32_MAX + 1);
}

const qbb_table *qbb_table_build(void *memory, const qbb_way *ways, size_t count, int link_count)
{
    qbb_table *table = memory;
    if (count > QBB_TABLE_MAX || link_count > QBB_LINKS_MAX || !good(ways, count, link_count))
        return NULL;
    table->ranges = table->unused = 0;
    table->ways = (qbb_way *)(table + 1);
    table->starts = (uint32_t *)(table->ways + count);
    table->first = table->starts + ranges_most(count);
    if (count != 0)
        memcpy(table->ways, ways, count * sizeof *ways);
    sweep(table, count);
    return table;
}

const qbb_way *qbb_table_find(const qbb_table *table, uint32_t destination)
{
    uint32_t at = 0;
    for (uint32_t left = table->ranges; left > 1;) {
        uint32_t half = left / 2;
        at += table->starts[at + half] <= destination ? half : 0; /* compiled without a branch */
        left -= half;
    }
    return table->first[at] == NO_WAY ? NULL : table->ways + table->first[at];
}
