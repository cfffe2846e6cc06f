/* The receiver's window over its key buffer: which words of [floor, loaded) verified packets have taken.
 *
 * A packet's words are taken once and wiped at once, so nothing can be opened twice with them. The floor follows the
 * highest word taken at a distance of window_words; the sender never runs further ahead of a packet that it may still
 * resend. Only verified packets move anything here.
 *
 * So the taken words are all in [floor, highest), at most window_words of them: that is what the bitmap covers. */
#ifndef QBB_WINDOW_H
#define QBB_WINDOW_H
#include "keybuf.h"

typedef struct {
    qbb_keybuf buf;
    uint64_t *taken;       /* one bit a word, at word mod bitmap_words */
    uint64_t bitmap_words; /* a power of two, at least window_words and 64 */
    uint64_t taken_words;  /* bits set */
    uint64_t highest;      /* end of the highest span taken */
    uint64_t window_words;
} qbb_window;

/* The one 64-bit counter with these low 32 bits that is not below the floor (and less than 2^32 above). A buffer holds
 * far fewer words than 2^32, so a counter that is in the buffer is restored rightly; any other one fails
 * qbb_window_available. */
uint64_t qbb_window_restore(const qbb_window *window, uint32_t low);
/* Are the words [first, first + words) loaded, above the floor, and none of them taken? */
int qbb_window_available(const qbb_window *window, uint64_t first, uint64_t words);
/* Was this word taken by a packet, and is still above the floor? */
int qbb_window_taken(const qbb_window *window, uint64_t word);
/* Takes and wipes an available span, and raises the floor. */
void qbb_window_take(qbb_window *window, uint64_t first, uint64_t words);
/* Wipes everything below `word`, which becomes the floor (at most what is loaded). */
void qbb_window_raise(qbb_window *window, uint64_t word);
void qbb_window_reset(qbb_window *window);
#endif
