# Compiler flags of kernel files of this level.
set(NPCONV_FLAGS_scalar "")
