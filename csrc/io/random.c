#include "random.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "pad.h"
#include "wipe.h"

#define STARTUP_WAIT_MS 5000

struct qbb_random {
    int fd; /* -1 without a hardware source */
    qbb_health health;
    /* Noise read but not used yet: a slow source gives a key in pieces. */
    size_t held;
    uint8_t noise[QBB_KEY_MAX_BYTES];
};

/* Reads until `need` tested bytes are held. 0, or -errno. */
static int gather(qbb_random *random, size_t need)
{
    while (random->held < need) {
        uint8_t *end = random->noise + random->held;
        ssize_t got = read(random->fd, end, need - random->held);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == EAGAIN ? -EAGAIN : -EIO;
        if (got == 0)
            return -EIO;
        if (qbb_health_feed(&random->health, end, (size_t)got) != QBB_HEALTH_GOOD)
            return -EIO;
        random->held += (size_t)got;
    }
    return 0;
}

static void spend_noise(qbb_random *random)
{
    qbb_wipe(random->noise, random->held);
    random->held = 0;
}

static int start_up(qbb_random *random)
{
    for (size_t tested = 0; tested < QBB_HEALTH_STARTUP_BYTES; tested += random->held, spend_noise(random)) {
        struct pollfd wait = { .fd = random->fd, .events = POLLIN };
        int verdict;
        while ((verdict = gather(random, QBB_KEY_MAX_BYTES)) == -EAGAIN)
            if (poll(&wait, 1, STARTUP_WAIT_MS) == 0)
                return ETIMEDOUT;
        if (verdict)
            return -verdict;
    }
    return 0;
}

qbb_random *qbb_random_new(const char *hardware, unsigned entropy_bits)
{
    qbb_random *random = calloc(1, sizeof *random);
    if (random == NULL)
        return NULL;
    random->fd = -1;
    if (hardware == NULL)
        return random;
    int error = EINVAL;
    if (qbb_health_init(&random->health, entropy_bits) == 0) {
        random->fd = open(hardware, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        error = random->fd < 0 ? errno : start_up(random);
    }
    if (error) {
        qbb_random_free(random);
        errno = error;
        return NULL;
    }
    return random;
}

void qbb_random_free(qbb_random *random)
{
    if (random == NULL)
        return;
    if (random->fd >= 0)
        close(random->fd);
    qbb_wipe(random, sizeof *random);
    free(random);
}

enum qbb_health_verdict qbb_random_health(const qbb_random *random)
{
    return (enum qbb_health_verdict)random->health.verdict;
}

static int system_random(uint8_t *out, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t got = getrandom(out + done, length - done, 0);
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got > 0)
            done += (size_t)got;
    }
    return 0;
}

/* One key straight into its slot. */
static int draw_one(qbb_random *random, uint8_t *key, size_t length)
{
    int verdict = system_random(key, length);
    if (verdict || random->fd < 0)
        return verdict;
    verdict = random->health.verdict ? -EIO : gather(random, length);
    if (verdict)
        return verdict;
    qbb_pad(key, key, random->noise, length);
    /* A piece gathered for a longer key that was given up may be longer than this key: what is left is not used either. */
    spend_noise(random);
    return 0;
}

int qbb_random_draw(qbb_random *random, qbb_shelf *shelf, size_t length, size_t count, uint64_t *handles)
{
    size_t drawn = 0;
    int verdict = 0;
    while (drawn < count && verdict == 0) {
        int error;
        uint64_t handle = qbb_shelf_claim(shelf, length, &error);
        if (error) {
            verdict = error == -QBB_SHELF_LENGTH ? -EMSGSIZE : -ENOSPC;
            break;
        }
        verdict = draw_one(random, qbb_shelf_at(shelf, handle), length);
        if (verdict)
            qbb_shelf_release(shelf, handle);
        else
            handles[drawn++] = handle;
    }
    return drawn ? (int)drawn : verdict;
}
