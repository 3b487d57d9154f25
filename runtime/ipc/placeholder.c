typedef int ld_ipc_pending;
