# The one door: every dependency is found here. Nothing is vendored; README.md beside this file says why each is needed.
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)
if(NOT SKBUILD)
  # A build without scikit-build-core (presets) asks the interpreter where its pybind11 lies.
  execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir OUTPUT_VARIABLE pybind11_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
set(PYBIND11_FINDPYTHON ON)
find_package(pybind11 3.0 CONFIG REQUIRED)
find_package(Threads REQUIRED)
if(NPCONV_THREADING STREQUAL "openmp")
  find_package(OpenMP REQUIRED COMPONENTS CXX)
endif()
