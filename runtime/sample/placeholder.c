typedef int ld_sample_pending;
