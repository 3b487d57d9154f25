typedef int ld_clock_pending;
