/* Does any branch or address of hash, tag and pad depend on H, on the mask, on pads or on padded text? Run under valgrind's
 * memcheck, which reports jumps and addresses that depend on undefined bytes: here, on secrets. */
#include <string.h>
#include <valgrind/memcheck.h>

#include "check.h"
#include "fingerprint.h"
#include "hash.h"
#include "pad.h"
#include "tag.h"
#include "wipe.h"

#define SIZE 300

static void secret(void *bytes, size_t length)
{
    VALGRIND_MAKE_MEM_UNDEFINED(bytes, length);
}

static void published(void *bytes, size_t length)
{
    VALGRIND_MAKE_MEM_DEFINED(bytes, length);
}

static void exercise(void)
{
    uint8_t h[16] = {1}, mask[16] = {2}, pad_a[SIZE] = {3}, pad_b[SIZE] = {4}, text[SIZE] = {5}, fixed[64] = {6};
    uint8_t out[SIZE], sealed[SIZE], tag[16], again[16], finger[16];
    qbb_hash_key key;
    secret(h, sizeof h);
    secret(mask, sizeof mask);
    secret(pad_a, sizeof pad_a);
    secret(pad_b, sizeof pad_b);
    secret(text + 20, sizeof text - 20);
    qbb_hash_key_expand(&key, h);
    for (size_t length = 20; length <= SIZE; length += 35) {
        qbb_pad_and_tag(out, tag, &key, fixed, text, length, 20, pad_a, pad_b, mask);
        qbb_pad(sealed + 20, text + 20, pad_b, length - 20);
        qbb_tag(again, &key, fixed, out, length, mask, QBB_USE_MASK_OPEN);
        int equal = qbb_equal(tag, again, sizeof tag);
        published(&equal, sizeof equal); /* whether a tag was right is told to everybody */
        CHECK(equal);
    }
    qbb_fingerprint(finger, h, text, sizeof text);
#ifdef PLANTED
    if (key.powers[31][0] & 1)
        fprintf(stderr, "odd\n");
#endif
    qbb_wipe(&key, sizeof key);
}

int main(void)
{
    if (!RUNNING_ON_VALGRIND) {
        fprintf(stderr, "run me under valgrind: make -C csrc/tests ct\n");
        return 1;
    }
    for (int kind = QBB_HASH_PORTABLE; kind <= QBB_HASH_VPCLMUL; kind++)
        if (qbb_hash_select((enum qbb_hash_kind)kind) == 0) {
            printf("constant time: %s\n", qbb_hash_name((enum qbb_hash_kind)kind));
            exercise();
        }
    return 0;
}
