/* Chooses among the implementations of the hash: the fastest that the processor has and that gives the known answers. */
#include "hash.h"

#include <string.h>

#include "hash_kinds.h"

static const qbb_hash_ops *const kinds[] = {
    [QBB_HASH_PORTABLE] = &qbb_hash_portable,
#if defined(__x86_64__)
    [QBB_HASH_PCLMUL] = &qbb_hash_pclmul,
    [QBB_HASH_VPCLMUL] = &qbb_hash_vpclmul,
#endif
};
#define KINDS (sizeof kinds / sizeof *kinds)

const qbb_hash_ops *qbb_hash_ops_selected = &qbb_hash_portable;
static enum qbb_hash_kind selected = QBB_HASH_PORTABLE;

unsigned qbb_hash_available(void)
{
    unsigned available = 1u << QBB_HASH_PORTABLE;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("avx2"))
        available |= 1u << QBB_HASH_PCLMUL;
    if (__builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("bmi2"))
        available |= 1u << QBB_HASH_VPCLMUL;
#endif
    return available;
}

enum qbb_hash_kind qbb_hash_selected(void)
{
    return selected;
}

int qbb_hash_select(enum qbb_hash_kind kind)
{
    if ((unsigned)kind >= KINDS || !(qbb_hash_available() & 1u << kind))
        return -1;
    selected = kind;
    qbb_hash_ops_selected = kinds[kind];
    return 0;
}

const char *qbb_hash_name(enum qbb_hash_kind kind)
{
    return (unsigned)kind < KINDS ? kinds[kind]->name : "unknown";
}

/* At load: no kind serves before it gave the known answers. Portable code is the last resort; qbb_selftest tells of it. */
__attribute__((constructor)) static void select_fastest(void)
{
    for (int kind = (int)KINDS - 1; kind > QBB_HASH_PORTABLE; kind--)
        if (qbb_hash_available() & 1u << kind && qbb_hash_known_answers(kinds[kind]) == 0) {
            qbb_hash_select((enum qbb_hash_kind)kind);
            return;
        }
}

int qbb_selftest(void)
{
    for (size_t kind = 0; kind < KINDS; kind++)
        if (qbb_hash_available() & 1u << kind && qbb_hash_known_answers(kinds[kind]) != 0)
            return -1;
    return 0;
}

/* Powers are made once an epoch: portable code, the same for every kind. */
void qbb_hash_key_expand(qbb_hash_key *key, const uint8_t h[16])
{
    memcpy(key->powers[QBB_HASH_POWERS - 1], h, QBB_HASH_BLOCK);
    for (int i = QBB_HASH_POWERS - 2; i >= 0; i--)
        qbb_hash_dot(key->powers[i], key->powers[i + 1], key->powers[QBB_HASH_POWERS - 1]);
}

void qbb_hash_update(const qbb_hash_key *key, uint8_t acc[16], const uint8_t *data, size_t length)
{
    qbb_hash_ops_selected->update(key, acc, data, length);
}
