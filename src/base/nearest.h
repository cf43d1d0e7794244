/* Nearest: which known word may have been meant? For "did you mean" in messages. */
#ifndef GPT_BASE_NEAREST_H
#define GPT_BASE_NEAREST_H

#ifdef __cplusplus
extern "C" {
#endif

enum { NEAREST_WORD_BYTES = 64 /* a known word is shorter */ };

/* Begin with nearest_begin, show each known word to nearest_try, read `known`. */
typedef struct {
    const char *word;  /* as it was written; borrowed */
    const char *known; /* the word most like it so far; NULL: none is near enough to be meant */
    int distance;      /* fewer changes than so many turn one into the other */
} Nearest;

/* More than a quarter of its letters and one more are never changed. Capitals do not matter, - and
 * _ are the same. */
Nearest nearest_begin(const char *word);
void nearest_try(Nearest *nearest, const char *known);

#ifdef __cplusplus
}
#endif
#endif
