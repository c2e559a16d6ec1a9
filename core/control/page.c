#include "control/page.h"

/* The assembler puts the file there as it is; the build knows that this file depends on those (CMakeLists.txt). */
#define EMBED(name, file)                                                                                              \
    extern const unsigned char tm_page_##name[], tm_page_##name##_end[];                                               \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".global tm_page_" #name "\n.hidden tm_page_" #name "\ntm_page_" #name ":\n"                               \
            ".incbin \"" TM_PAGE_DIR "/" file "\"\n"                                                                   \
            ".global tm_page_" #name "_end\n.hidden tm_page_" #name "_end\ntm_page_" #name "_end:\n"                   \
            ".popsection\n")

EMBED(html, "console.html");
EMBED(css, "console.css");
EMBED(console, "console.js");
EMBED(draw, "draw.js");
EMBED(icon, "icon.svg");

#define SCRIPT "text/javascript; charset=utf-8"

const struct tm_page_file tm_page_files[] = {
    {"/", "text/html; charset=utf-8", tm_page_html, tm_page_html_end},
    {"/console.css", "text/css; charset=utf-8", tm_page_css, tm_page_css_end},
    {"/console.js", SCRIPT, tm_page_console, tm_page_console_end},
    {"/draw.js", SCRIPT, tm_page_draw, tm_page_draw_end},
    {"/icon.svg", "image/svg+xml", tm_page_icon, tm_page_icon_end},
    {0},
};
