typedef int ld_server_pending;
