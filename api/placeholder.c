typedef int ld_api_pending;
