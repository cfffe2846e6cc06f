/* A key buffer: the words of one direction of a link in one epoch (the paper's out and in buffers).
 *
 * The direction's key is one stream of 8-byte words counted from 0 at the start of the epoch: first the starter words
 * of the epoch's slot, then the chunks that OPEN records give to the direction, in the log's order. The buffer is a
 * ring of locked memory that is mapped twice in a row, so a span is always contiguous. Word w stands at base + (w * 8)
 * mod size. */
#ifndef QBB_KEYBUF_H
#define QBB_KEYBUF_H
#include <stddef.h>
#include <stdint.h>

/* cffi:begin */
typedef struct {
    uint8_t *base;       /* size_words * 8 bytes, mapped twice: [0, 2 * size) */
    uint64_t size_words; /* a power of two, at least a page */
    uint64_t loaded;     /* words [0, loaded) have been put in */
    uint64_t floor;      /* words below are gone and wiped: spent (sender) or out of the window (receiver) */
} qbb_keybuf;
/* cffi:end */

/* Room for `words` more? Pointer to where they go, or NULL. The words count after qbb_keybuf_commit only. */
uint8_t *qbb_keybuf_reserve(qbb_keybuf *buf, uint64_t words);
void qbb_keybuf_commit(qbb_keybuf *buf, uint64_t words);
uint8_t *qbb_keybuf_at(const qbb_keybuf *buf, uint64_t word);
/* Key comes cold from memory, once, in order: when `words` were used at `word`, fetch what some packets later will use
 * (for writing: it is wiped after use). */
void qbb_keybuf_prefetch(const qbb_keybuf *buf, uint64_t word, uint64_t words);
/* Wipe [floor, word) and raise the floor. */
void qbb_keybuf_drop_below(qbb_keybuf *buf, uint64_t word);
/* Wipe all and start a new stream at word 0. */
void qbb_keybuf_reset(qbb_keybuf *buf);
#endif
