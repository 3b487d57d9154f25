typedef int ld_log_pending;
