#include "health.h"

#include <string.h>

/* Cutoffs for alpha = 2^-30 by claimed min-entropy H (bits a byte). Repetition: 1 + ceil(30 / H) (4.4.1). Proportion:
 * 1 + critbinom(512, 2^-H, 1 - 2^-30) (4.4.2); tests/unit/native computes both again. */
static const uint16_t RUN_CUTOFF[9] = { 0, 31, 16, 11, 9, 7, 6, 6, 5 };
static const uint16_t WINDOW_CUTOFF[9] = { 0, 325, 190, 114, 71, 46, 31, 22, 16 };

int qbb_health_init(qbb_health *health, unsigned entropy_bits)
{
    if (entropy_bits < 1 || entropy_bits > 8)
        return -1;
    memset(health, 0, sizeof *health);
    health->run_cutoff = RUN_CUTOFF[entropy_bits];
    health->window_cutoff = WINDOW_CUTOFF[entropy_bits];
    return 0;
}

static void repetition(qbb_health *health, uint8_t sample)
{
    health->run = health->run > 0 && sample == health->last ? health->run + 1 : 1;
    health->last = sample;
    if (health->run >= health->run_cutoff && health->verdict == QBB_HEALTH_GOOD)
        health->verdict = QBB_HEALTH_REPETITION;
}

static void proportion(qbb_health *health, uint8_t sample)
{
    if (health->seen == 0) {
        health->reference = sample;
        health->same = 0;
    }
    health->same += sample == health->reference;
    if (health->same >= health->window_cutoff && health->verdict == QBB_HEALTH_GOOD)
        health->verdict = QBB_HEALTH_PROPORTION;
    health->seen = (health->seen + 1) % QBB_HEALTH_WINDOW;
}

enum qbb_health_verdict qbb_health_feed(qbb_health *health, const uint8_t *samples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        repetition(health, samples[i]);
        proportion(health, samples[i]);
    }
    return (enum qbb_health_verdict)health->verdict;
}
