typedef int ld_text_pending;
