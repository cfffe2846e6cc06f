/* Health tests of a noise source, NIST SP 800-90B section 4.4: repetition count and adaptive proportion over byte samples,
 * for a claimed min-entropy of 1 to 8 bits a byte and a false alarm probability of 2^-30 each. Pure. */
#ifndef QBB_HEALTH_H
#define QBB_HEALTH_H
#include <stddef.h>
#include <stdint.h>

/* cffi:begin */
#define QBB_HEALTH_WINDOW 512
#define QBB_HEALTH_STARTUP_BYTES 1024
enum qbb_health_verdict { QBB_HEALTH_GOOD, QBB_HEALTH_REPETITION, QBB_HEALTH_PROPORTION };

typedef struct {
    uint32_t run_cutoff, window_cutoff;
    uint32_t run, seen, same;
    uint8_t last, reference;
    uint8_t verdict; /* the first failure sticks */
} qbb_health;

/* -1 when the claim is not 1..8 bits. */
int qbb_health_init(qbb_health *health, unsigned entropy_bits);
/* Tests the samples; the verdict over everything fed so far. */
enum qbb_health_verdict qbb_health_feed(qbb_health *health, const uint8_t *samples, size_t count);
/* cffi:end */
#endif
