typedef int ld_image_pending;
