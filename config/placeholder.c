typedef int ld_config_pending;
