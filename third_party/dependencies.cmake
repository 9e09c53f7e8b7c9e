# The one door: every dependency is found here. Nothing is vendored; README.md beside this file says why each is needed.
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)

# Under scikit-build-core the build requirements are on the search path; a preset asks the interpreter for its pybind11.
if(NOT SKBUILD AND NOT pybind11_ROOT AND NOT pybind11_DIR)
  execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir
                  OUTPUT_VARIABLE pybind11_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE _failed)
  if(_failed)
    message(FATAL_ERROR "pybind11 is not installed for ${Python_EXECUTABLE}: pip install 'pybind11>=3,<4'")
  endif()
endif()
set(PYBIND11_FINDPYTHON ON)
find_package(pybind11 3.0 CONFIG REQUIRED)

# Only cpp/src/threading is compiled for OpenMP. The fork handler needs pthreads in both back ends.
find_package(Threads REQUIRED)
if(NPCONV_THREADING STREQUAL "openmp")
  find_package(OpenMP REQUIRED COMPONENTS CXX)
elseif(NOT NPCONV_THREADING STREQUAL "std")
  message(FATAL_ERROR "NPCONV_THREADING is '${NPCONV_THREADING}', expected openmp or std")
endif()
