/* The key oracle's eyes, compiled into the probe build of the extension only (-DQBB_PROBE).
 *
 * Where the core uses key words (pad, mask, hash key, fingerprint), it tells the probe the very words that it used, read
 * from the memory that the operation reads. The oracle knows each word of key by its value, so it sees what was covered
 * however offsets moved. In the product these macros are empty. */
#ifndef QBB_PROBE_H
#define QBB_PROBE_H
#include <stddef.h>
#include <stdint.h>

/* cffi-probe:begin */
enum qbb_use { QBB_USE_PAD_SEAL, QBB_USE_MASK_SEAL, QBB_USE_PAD_OPEN, QBB_USE_MASK_OPEN, QBB_USE_HASH_KEY,
    QBB_USE_FINGERPRINT };
/* Each record in the log: u8 use, u8 0, u16 number of words, then the words (8 bytes each). Returns its bytes and empties
 * it. */
size_t qbb_probe_take(uint8_t *out, size_t capacity);
/* cffi-probe:end */

#ifdef QBB_PROBE
void qbb_probe_note(enum qbb_use use, const uint8_t *key, size_t bytes);
#define QBB_NOTE(use, key, bytes) qbb_probe_note((use), (key), (bytes))
#else
#define QBB_NOTE(use, key, bytes) ((void)0)
#endif
#endif
