/* The ring between data plane and keys service, its memory written by a hostile peer: before the first take, and between
 * takes. A take stays within the bounds and comes to an end. */
#include "fuzz.h"
#include "shmring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t *ring;
    static uint8_t out[QBB_RING_SLOT_BYTES];
    if (ring == NULL && posix_memalign((void **)&ring, 64, qbb_ring_bytes()) != 0)
        abort();
    qbb_ring_init(ring);
    input in = {data, size};
    while (in.left != 0) {
        /* The peer writes up to 64 bytes somewhere: at its counters, in the first slots, or anywhere. */
        uint8_t where = take_byte(&in);
        size_t at = where < 64 ? where * 4u : where < 128 ? 128 + (where - 64u) * 1544 : take_short(&in) * 13u;
        size_t length = take_byte(&in) % 64;
        if (length > in.left)
            length = in.left;
        if (at + length <= qbb_ring_bytes())
            memcpy(ring + at, in.at, length);
        in.at += length;
        in.left -= length;

        for (int takes = where % 5; takes > 0; takes--) {
            size_t clear = 0;
            int taken = qbb_ring_take(ring, out, &clear);
            HOLDS(taken >= -1 && taken <= QBB_RING_SLOT_BYTES && (taken <= 0 || clear <= (size_t)taken));
        }
        if (where % 7 == 0)
            qbb_ring_put(ring, out, length, length / 2);
    }
    /* Whatever the counters say, a reader that keeps taking comes to the end. */
    int takes = 0;
    size_t clear;
    while (qbb_ring_take(ring, out, &clear) != 0)
        HOLDS(++takes <= QBB_RING_SLOTS + 1);
    return 0;
}
