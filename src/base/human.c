#include "base/human.h"

#include <math.h>
#include <stdio.h>

Human human_bytes(size_t n_bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    Human h;
    double value = (double)n_bytes;
    int i = 0;
    for (; value >= (i == 0 ? 1024.0 : 1023.95) && i < 5; i++) /* 1023.95 would print as 1024.0 */
        value /= 1024.0;
    snprintf(h.text, sizeof h.text, i == 0 ? "%.0f %s" : "%.1f %s", value, unit[i]);
    return h;
}

Human human_count(int64_t n)
{
    char digits[24];
    Human h = {""};
    int length = snprintf(digits, sizeof digits, "%lld", (long long)n);
    char *out = h.text;
    for (int i = 0; i < length; i++) {
        *out++ = digits[i];
        int left = length - 1 - i;
        if (left > 0 && left % 3 == 0 && digits[i] != '-')
            *out++ = ',';
    }
    return h;
}

/* A speed of nothing makes an estimate infinite, which no integer holds. */
static const double LONGEST = 1e6 * 86400;

Human human_duration(double seconds)
{
    Human h;
    long long s = seconds > 0 ? (long long)(fmin(seconds, LONGEST) + 0.5) : 0;
    if (s < 60)
        snprintf(h.text, sizeof h.text, "%llds", s);
    else if (s < 3600)
        snprintf(h.text, sizeof h.text, "%lldm%02llds", s / 60, s % 60);
    else if (s < 86400)
        snprintf(h.text, sizeof h.text, "%lldh%02lldm", s / 3600, s / 60 % 60);
    else
        snprintf(h.text, sizeof h.text, "%lldd%02lldh", s / 86400, s / 3600 % 24);
    return h;
}
