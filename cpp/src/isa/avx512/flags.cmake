# Compiler flags of kernel files of this level: features one by one, never -march, so that no other extension slips in.
set(NPCONV_FLAGS_avx512 -mavx2 -mfma -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
    -Wno-init-self)  # gcc 12's headers initialise "undefined" vectors with themselves and then warn about every use
