/* The extended routing table (paper 2.5.2): for each destination prefix, the ways to it in order of preference.
 *
 * Built once in memory of the caller and never changed: whoever wants another table builds another and swaps the pointer.
 * Prefixes may lie in each other; building cuts the address space at each prefix's two ends and notes for each range its
 * longest prefix. So a lookup is one binary search, whatever the lengths. */
#ifndef QBB_TABLE_H
#define QBB_TABLE_H
#include <stddef.h>
#include <stdint.h>

/* cffi:begin */
#define QBB_WAY_LOCAL -1      /* this node itself */
#define QBB_LINKS_MAX 64
#define QBB_TABLE_MAX 1048576 /* ways */

enum qbb_way_flags {
    QBB_WAY_BEST = 1,      /* on a shortest path */
    QBB_WAY_LOOP_FREE = 2, /* the next hop is nearer to the destination than we are */
    QBB_WAY_LAST = 4       /* of its prefix; set by building */
};

/* One way to one prefix. */
typedef struct {
    uint32_t prefix; /* host order */
    uint8_t bits;    /* its length, 0 to 32 */
    uint8_t flags;
    int16_t link;    /* index, or QBB_WAY_LOCAL */
    uint32_t cost;   /* for people: the order of the ways counts */
} qbb_way;

typedef struct qbb_table qbb_table;

/* Memory for a table of so many ways: 8-byte aligned. 0 when there are too many. */
size_t qbb_table_bytes(size_t count);
/* Ways sorted by prefix, then bits; those of one prefix together, the preferred first; links below link_count. NULL when they
 * are not so. */
const qbb_table *qbb_table_build(void *memory, const qbb_way *ways, size_t count, int link_count);
/* The first way of the longest prefix of this destination, the others behind it up to QBB_WAY_LAST; NULL without one. */
const qbb_way *qbb_table_find(const qbb_table *table, uint32_t destination);
/* cffi:end */
#endif
