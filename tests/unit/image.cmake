ld_unit_test(test_png ld_image PkgConfig::DEFLATE)
