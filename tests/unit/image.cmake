ld_unit_test(test_png ld_image PkgConfig::DEFLATE)
ld_unit_test(test_pixels ld_image)
ld_unit_test(test_recipe ld_image)
ld_unit_test(test_sheet ld_image)
