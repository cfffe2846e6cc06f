#include "probe.h"

#ifdef QBB_PROBE
#include <stdlib.h>
#include <string.h>

/* A log that lost a record would hide a reuse, so a full log is an error that nobody can overlook. */
#define LOG_BYTES (1 << 20)

static uint8_t note_log[LOG_BYTES];
static size_t log_length;

void qbb_probe_note(enum qbb_use use, const uint8_t *key, size_t bytes)
{
    uint16_t words = (uint16_t)((bytes + 7) / 8);
    if (words == 0)
        return;
    if (log_length + 4 + (size_t)words * 8 > LOG_BYTES)
        abort();
    uint8_t *record = note_log + log_length;
    record[0] = (uint8_t)use;
    record[1] = 0;
    record[2] = (uint8_t)(words >> 8);
    record[3] = (uint8_t)words;
    memset(record + 4 + (size_t)(words - 1) * 8, 0, 8);
    memcpy(record + 4, key, bytes);
    log_length += 4 + (size_t)words * 8;
}

size_t qbb_probe_take(uint8_t *out, size_t capacity)
{
    size_t length = log_length;
    if (length > capacity)
        abort();
    memcpy(out, note_log, length);
    log_length = 0;
    return length;
}
#endif
