/* Wiping and comparing secrets. */
#ifndef QBB_WIPE_H
#define QBB_WIPE_H
#include <stddef.h>
#include <stdint.h>

/* cffi:begin */
void qbb_wipe(void *bytes, size_t length);
/* Vector registers keep what was last padded, tagged or copied, for as long as the thread does nothing else: a core dump or
 * a debugger shows them. To be called before a thread that handled key waits. */
void qbb_wipe_registers(void);
/* 1 when equal, 0 when not; the time depends on length alone. */
int qbb_equal(const void *a, const void *b, size_t length);
/* cffi:end */
#endif
