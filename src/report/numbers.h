/* Numbers: the part of the page that needs no script: final figures of each run as a table, the
 * verdicts on its loss, and remarks on what was left out. */
#ifndef GPT_REPORT_NUMBERS_H
#define GPT_REPORT_NUMBERS_H

#include "report/folder.h"

#ifdef __cplusplus
extern "C" {
#endif

void numbers_table(const Folder *folder, int32_t n_folders, FILE *out);
void numbers_verdicts(const Folder *folder, int32_t n_folders, FILE *out);
void numbers_remarks(const Folder *folder, int32_t n_folders, FILE *out);

#ifdef __cplusplus
}
#endif
#endif
