#include <pybind11/pybind11.h>
PYBIND11_MODULE(_npconv, m) { m.attr("__version__") = NPCONV_VERSION; }
