/* Page: the report, one HTML file that needs nothing else: style, script and data are in it.
 *
 * The sources are page.html, page.css and page.js, which the build puts into the program.
 * Everything that comes from a run is escaped: the final numbers as HTML, the curves as JSON in
 * which no '<' stands. */
#ifndef GPT_REPORT_PAGE_H
#define GPT_REPORT_PAGE_H

#include "report/folder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Points of a curve: at most 2 * PAGE_PARTS + 2. */
enum { PAGE_PARTS = 1000 };

/* *html (malloc'd, *n_bytes of it) = the page of n_folders runs, made at `now` (seconds since
 * 1970). ERR_SYSTEM. */
Err page_make(const Folder *folder, int32_t n_folders, int64_t now, char **html, size_t *n_bytes);

/* The data of the page, as its script reads it: JSON that may stand in a script element; malloc'd.
 * ERR_SYSTEM. */
Err page_data(const Folder *folder, int32_t n_folders, char **json);

/* Text with & < > " ' as entities. */
void html_escape(const char *text, FILE *out);

#ifdef __cplusplus
}
#endif
#endif
