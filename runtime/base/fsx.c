typedef int ld_fsx_pending;
