/* ASSERT: always on, for our own mistakes only (a wrong shape, a NULL that cannot be). Never
 * for file contents, settings or anything else from outside: those are Err values. No side
 * effects in the condition. It is checked per op, not per element, so it costs nothing that can
 * be measured. */
#ifndef GPT_BASE_CHECK_H
#define GPT_BASE_CHECK_H

#ifdef __cplusplus
extern "C" {
#endif

#define ASSERT(cond, ...)                                                                          \
    do {                                                                                           \
        if (!(cond))                                                                               \
            check_failed(__FILE__, __LINE__, #cond, __VA_ARGS__);                                  \
    } while (0)

/* Print "file:line: assertion failed: cond: message" to stderr and abort. */
void check_failed(const char *file, int line, const char *cond, const char *fmt, ...)
    __attribute__((format(printf, 4, 5), noreturn, cold));

#ifdef __cplusplus
}
#endif
#endif
