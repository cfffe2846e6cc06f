/* Wiping and comparing secrets. */
#ifndef QBB_WIPE_H
#define QBB_WIPE_H
#include <stddef.h>
#include <stdint.h>

/* cffi:begin */
void qbb_wipe(void *bytes, size_t length);
/* 1 when equal, 0 when not; the time depends on length alone. */
int qbb_equal(const void *a, const void *b, size_t length);
/* cffi:end */
#endif
