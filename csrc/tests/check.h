/* One macro for C tests: says where, and ends with failure. */
#ifndef QBB_CHECK_H
#define QBB_CHECK_H
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

#define CHECK_EQUAL(found, expected) \
    do { \
        long long f_ = (long long)(found), e_ = (long long)(expected); \
        if (f_ != e_) { \
            fprintf(stderr, "%s:%d: %s is %lld, expected %s, %lld\n", __FILE__, __LINE__, #found, f_, #expected, e_); \
            exit(1); \
        } \
    } while (0)
#endif
