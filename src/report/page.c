#include "report/page.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "report/numbers.h"
#include "report/page_files.h"

typedef struct {
    const Folder *folder;
    int32_t n_folders;
    int64_t now;
    const char *data;
} Report;

/* ---- the parts --------------------------------------------------------------------------- */

void html_escape(const char *text, FILE *out)
{
    for (const char *c = text; *c; c++)
        switch (*c) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        case '\'':
            fputs("&#39;", out);
            break;
        default:
            fputc(*c, out);
        }
}

static void put_title(const Report *r, FILE *out)
{
    html_escape(r->folder[0].name, out);
    if (r->n_folders > 1)
        fprintf(out, " and %" PRId32 " more", r->n_folders - 1);
}

static void put_date(const Report *r, FILE *out)
{
    char text[64] = "";
    struct tm utc;
    time_t now = (time_t)r->now;
    if (gmtime_r(&now, &utc))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &utc);
    fputs(text, out);
}

static void put_numbers(const Report *r, FILE *out)
{
    numbers_table(r->folder, r->n_folders, out);
}

static void put_verdicts(const Report *r, FILE *out)
{
    numbers_verdicts(r->folder, r->n_folders, out);
}

static void put_remarks(const Report *r, FILE *out)
{
    numbers_remarks(r->folder, r->n_folders, out);
}

static void put_style(const Report *r, FILE *out)
{
    (void)r;
    fputs((const char *)PAGE_CSS, out);
}

static void put_data(const Report *r, FILE *out)
{
    fputs(r->data, out);
}

static void put_script(const Report *r, FILE *out)
{
    (void)r;
    fputs((const char *)PAGE_JS, out);
}

/* ---- the whole --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*put)(const Report *r, FILE *out);
} PARTS[] = {{"title", put_title},       {"date", put_date},       {"numbers", put_numbers},
             {"verdicts", put_verdicts}, {"remarks", put_remarks}, {"style", put_style},
             {"data", put_data},         {"script", put_script}};

/* The part whose name stands at `text`, which page.html has no other of. */
static void put_part(const Report *r, const char *text, size_t length, FILE *out)
{
    for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++)
        if (strlen(PARTS[i].name) == length && memcmp(PARTS[i].name, text, length) == 0) {
            PARTS[i].put(r, out);
            return;
        }
    ASSERT(false, "page.html has a part %.*s", (int)length, text);
}

static void put_page(const Report *r, FILE *out)
{
    const char *text = (const char *)PAGE_HTML, *open;
    while ((open = strstr(text, "{{")) != NULL) {
        const char *close = strstr(open, "}}");
        ASSERT(close, "page.html has a part without an end");
        fwrite(text, 1, (size_t)(open - text), out);
        put_part(r, open + 2, (size_t)(close - open - 2), out);
        text = close + 2;
    }
    fputs(text, out);
}

static Err print_page(const Report *r, char **html, size_t *n_bytes)
{
    FILE *out = open_memstream(html, n_bytes);
    if (!out)
        FAIL(ERR_SYSTEM, "out of memory for the page");
    put_page(r, out);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(*html);
        *html = NULL;
        FAIL(ERR_SYSTEM, "out of memory for the page");
    }
    return OK;
}

Err page_make(const Folder *folder, int32_t n_folders, int64_t now, char **html, size_t *n_bytes)
{
    char *data = NULL;
    *html = NULL;
    TRY(page_data(folder, n_folders, &data));
    const Report report = {folder, n_folders, now, data};
    Err err = print_page(&report, html, n_bytes);
    free(data);
    return err;
}
