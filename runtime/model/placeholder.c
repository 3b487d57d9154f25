typedef int ld_model_pending;
