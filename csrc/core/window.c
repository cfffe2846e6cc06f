#include "window.h"

#include <string.h>

#include "wipe.h"

/* The part of [first, end) that lies in one 64-bit group of the bitmap. */
typedef struct {
    uint64_t *group;
    uint64_t mask;
    uint64_t words;
} part;

static part part_of(const qbb_window *window, uint64_t first, uint64_t end)
{
    uint64_t index = first & (window->bitmap_words - 1), shift = index & 63;
    uint64_t words = 64 - shift < end - first ? 64 - shift : end - first;
    uint64_t ones = words == 64 ? UINT64_MAX : ((uint64_t)1 << words) - 1;
    return (part){window->taken + index / 64, ones << shift, words};
}

uint64_t qbb_window_restore(const qbb_window *window, uint32_t low)
{
    return window->buf.floor + (uint32_t)(low - (uint32_t)window->buf.floor);
}

int qbb_window_available(const qbb_window *window, uint64_t first, uint64_t words)
{
    if (first < window->buf.floor || first > window->buf.loaded || words > window->buf.loaded - first)
        return 0;
    uint64_t end = first + words < window->highest ? first + words : window->highest;
    for (uint64_t word = first; word < end;) {
        part p = part_of(window, word, end);
        if (*p.group & p.mask)
            return 0;
        word += p.words;
    }
    return 1;
}

int qbb_window_taken(const qbb_window *window, uint64_t word)
{
    if (word < window->buf.floor || word >= window->highest)
        return 0;
    part p = part_of(window, word, word + 1);
    return (*p.group & p.mask) != 0;
}

void qbb_window_take(qbb_window *window, uint64_t first, uint64_t words)
{
    uint64_t end = first + words;
    qbb_wipe(qbb_keybuf_at(&window->buf, first), words * 8);
    /* The floor first: it clears the places in the bitmap that these words may need. */
    if (end > window->window_words)
        qbb_window_raise(window, end - window->window_words);
    for (uint64_t word = first; word < end;) {
        part p = part_of(window, word, end);
        *p.group |= p.mask;
        word += p.words;
    }
    window->taken_words += words;
    if (end > window->highest)
        window->highest = end;
}

void qbb_window_raise(qbb_window *window, uint64_t word)
{
    qbb_keybuf *buf = &window->buf;
    if (word > buf->loaded)
        word = buf->loaded;
    while (buf->floor < word && buf->floor < window->highest) {
        part p = part_of(window, buf->floor, word < window->highest ? word : window->highest);
        uint64_t taken = p.words;
        /* Taken words are zero already; wiping them again would only pull cold memory into the cache. */
        if ((*p.group & p.mask) != p.mask) {
            qbb_wipe(qbb_keybuf_at(buf, buf->floor), p.words * 8);
            taken = (uint64_t)__builtin_popcountll(*p.group & p.mask);
        }
        window->taken_words -= taken;
        *p.group &= ~p.mask;
        buf->floor += p.words;
    }
    qbb_keybuf_drop_below(buf, word);
}

void qbb_window_reset(qbb_window *window)
{
    qbb_keybuf_reset(&window->buf);
    memset(window->taken, 0, window->bitmap_words / 8);
    window->taken_words = 0;
    window->highest = 0;
}
