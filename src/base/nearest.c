#include "base/nearest.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static char fold(char c)
{
    return c == '-' ? '_' : (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* Fewest insertions, deletions and changes that turn a into b (Levenshtein 1966), row by row. */
static int edit_distance(const char *a, const char *b)
{
    int row[NEAREST_WORD_BYTES], n = (int)strlen(b);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; *a; a++, i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (fold(*a) != fold(b[j - 1]));
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

Nearest nearest_begin(const char *word)
{
    return (Nearest){.word = word, .known = NULL, .distance = 2 + (int)(strlen(word) / 4)};
}

void nearest_try(Nearest *nearest, const char *known)
{
    ASSERT(strlen(known) < NEAREST_WORD_BYTES, "%s", known);
    size_t n = strlen(nearest->word);
    if (n >= 2 * NEAREST_WORD_BYTES) /* farther from each word than a quarter of it */
        return;
    if (abs((int)n - (int)strlen(known)) >= nearest->distance) /* at least so many changes */
        return;
    int distance = edit_distance(nearest->word, known);
    if (distance < nearest->distance) {
        nearest->distance = distance;
        nearest->known = known;
    }
}
