typedef int ld_id_pending;
