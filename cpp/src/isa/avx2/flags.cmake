# Compiler flags of kernel files of this level.
set(NPCONV_FLAGS_avx2 -mavx2 -mfma)
