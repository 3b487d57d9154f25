/*
 * A vocabulary small enough to reckon with by hand, shared by the text tests and the prompt
 * fuzzer. Ids of the merges count from 512 in the order below; start 512 + FIXTURE_MERGES.
 */
#ifndef LD_TESTS_TEXT_FIXTURE_H
#define LD_TESTS_TEXT_FIXTURE_H

#include "runtime/text/bpe.h"

enum { FIXTURE_MERGES = 20 };

static const char fixture_vocabulary[] = "#version: 0.2\n"
                                         "a b\n"         /* 512 ab */
                                         "c d\n"         /* 513 cd */
                                         "ab cd\n"       /* 514 abcd */
                                         "abcd e</w>\n"  /* 515 abcde</w> */
                                         "a a\n"         /* 516 aa */
                                         "aa aa\n"       /* 517 aaaa */
                                         "a a</w>\n"     /* 518 aa</w> */
                                         "c a\n"         /* 519 ca */
                                         "ca t</w>\n"    /* 520 cat</w> */
                                         "d o\n"         /* 521 do */
                                         "do g</w>\n"    /* 522 dog</w> */
                                         "r e\n"         /* 523 re */
                                         "re d</w>\n"    /* 524 red</w> */
                                         "n e\n"         /* 525 ne */
                                         "ne g</w>\n"    /* 526 neg</w> */
                                         "' s</w>\n"     /* 527 's</w> */
                                         "B R\n"         /* 528, never met: text is lowered */
                                         "b re\n"        /* 529 bre */
                                         "bre a\n"       /* 530 brea */
                                         "brea k</w>\n"; /* 531 break</w> */

/* Lives as long as the process; NULL if the vocabulary does not load. */
static inline const struct ld_bpe *fixture_bpe(void)
{
    static struct ld_arena arena;
    static struct ld_bpe *bpe;
    struct ld_error err = {0};
    if (!bpe) {
        ld_arena_init(&arena, "fixture", 1 << 20);
        if (ld_bpe_create(&bpe, &arena, ld_span_text(fixture_vocabulary), 0, &err) != LD_OK)
            bpe = NULL;
    }
    return bpe;
}

#endif
