#include "keybuf.h"

#include "wipe.h"

uint8_t *qbb_keybuf_at(const qbb_keybuf *buf, uint64_t word)
{
    return buf->base + (word & (buf->size_words - 1)) * 8;
}

#define PREFETCH_WORDS 256 /* ahead: some 20 packets with one key each, or two large ones */

void qbb_keybuf_prefetch(const qbb_keybuf *buf, uint64_t word, uint64_t words)
{
    const uint8_t *ahead = qbb_keybuf_at(buf, word + PREFETCH_WORDS);
    for (uint64_t i = 0; i < words; i += 8)
        __builtin_prefetch(ahead + i * 8, 1);
}

uint8_t *qbb_keybuf_reserve(qbb_keybuf *buf, uint64_t words)
{
    uint64_t room = buf->size_words - (buf->loaded - buf->floor);
    return words <= room ? qbb_keybuf_at(buf, buf->loaded) : NULL;
}

void qbb_keybuf_commit(qbb_keybuf *buf, uint64_t words)
{
    buf->loaded += words;
}

void qbb_keybuf_drop_below(qbb_keybuf *buf, uint64_t word)
{
    if (word > buf->loaded)
        word = buf->loaded;
    if (word <= buf->floor)
        return;
    qbb_wipe(qbb_keybuf_at(buf, buf->floor), (word - buf->floor) * 8);
    buf->floor = word;
}

void qbb_keybuf_reset(qbb_keybuf *buf)
{
    /* All of it, not [floor, loaded): a chunk may have been copied in and never committed. */
    qbb_wipe(buf->base, buf->size_words * 8);
    buf->loaded = 0;
    buf->floor = 0;
}
