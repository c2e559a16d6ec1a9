/* The files of the console page (control/page/), as they were when the program was built. */
#ifndef TM_CONTROL_PAGE_H
#define TM_CONTROL_PAGE_H

struct tm_page_file {
    const char *path, *content_type;
    const unsigned char *bytes, *end;
};

extern const struct tm_page_file tm_page_files[]; /* ends with a NULL path */

#endif
