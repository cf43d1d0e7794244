/* page.html, page.css and page.js as the build found them (embed.cmake), each a string. */
#ifndef GPT_REPORT_PAGE_FILES_H
#define GPT_REPORT_PAGE_FILES_H

#ifdef __cplusplus
extern "C" {
#endif

extern const unsigned char PAGE_HTML[];
extern const unsigned char PAGE_CSS[];
extern const unsigned char PAGE_JS[];

#ifdef __cplusplus
}
#endif
#endif
