# Adds what computes on NVIDIA GPUs to UNMASK_SOURCES, or the file that says there is none.
#
# The .cu files are compiled by a command of their own and linked as objects: CUDA is not enabled as
# a language, so that programs are linked by the C compiler as ever, and need no library but the
# static runtime of CUDA, which looks for the driver when a GPU is opened.
set(UNMASK_CUDA_OBJECTS)
if(UNMASK_CUDA)
  find_program(UNMASK_NVCC nvcc HINTS /usr/local/cuda/bin ENV CUDA_HOME PATH_SUFFIXES bin)
  if(UNMASK_NVCC)
    get_filename_component(cuda_root ${UNMASK_NVCC} REALPATH)
    get_filename_component(cuda_root ${cuda_root} DIRECTORY)
    find_path(UNMASK_CUDA_INCLUDE cuda_runtime_api.h HINTS ${cuda_root}/../include)
    find_library(UNMASK_CUDA_RUNTIME cudart_static HINTS ${cuda_root}/../lib64 ${cuda_root}/../lib
                 PATH_SUFFIXES x86_64-linux-gnu)
  endif()
  if(UNMASK_NVCC AND UNMASK_CUDA_INCLUDE AND UNMASK_CUDA_RUNTIME)
    set(has_cuda ON)
  elseif(NOT UNMASK_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "UNMASK_CUDA is ${UNMASK_CUDA}, and nvcc, cuda_runtime_api.h or "
            "libcudart_static.a is missing (found: ${UNMASK_NVCC}, ${UNMASK_CUDA_INCLUDE}, "
            "${UNMASK_CUDA_RUNTIME})")
  endif()
endif()

if(has_cuda)
  message(STATUS "CUDA: ${UNMASK_NVCC} for ${UNMASK_CUDA_ARCHITECTURES}")
  # -fno-threadsafe-statics: guards would need the C++ library; what they guard are handles of
  # kernels, which every thread finds alike.
  set(cuda_flags -std=c++17 -O3 -lineinfo
      -Xcompiler=-fPIC,-fno-exceptions,-fno-threadsafe-statics,-fvisibility=hidden)
  if(UNMASK_WERROR)
    list(APPEND cuda_flags --Werror=all-warnings)
  endif()
  foreach(arch ${UNMASK_CUDA_ARCHITECTURES})
    list(APPEND cuda_flags -gencode=arch=compute_${arch},code=sm_${arch})
  endforeach()
  list(GET UNMASK_CUDA_ARCHITECTURES -1 last)
  list(APPEND cuda_flags -gencode=arch=compute_${last},code=compute_${last})
  file(GLOB cuda_sources CONFIGURE_DEPENDS src/kernels/cuda/*.cu)
  foreach(source ${cuda_sources})
    get_filename_component(name ${source} NAME_WE)
    set(object ${PROJECT_BINARY_DIR}/cuda/${name}.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${UNMASK_NVCC} ${cuda_flags} -I${PROJECT_SOURCE_DIR}/src
              -I${PROJECT_SOURCE_DIR}/include -MD -MF ${object}.d -c ${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d COMMENT "Building CUDA object ${name}.o" VERBATIM)
    list(APPEND UNMASK_CUDA_OBJECTS ${object})
  endforeach()
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/cuda)
  set_source_files_properties(${UNMASK_CUDA_OBJECTS} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  file(GLOB cuda_c CONFIGURE_DEPENDS src/kernels/cuda/*.c)
  list(APPEND UNMASK_SOURCES ${cuda_c})
  list(FILTER UNMASK_SOURCES EXCLUDE REGEX "kernels/cuda_absent\\.c$")
  target_include_directories(unmask_options SYSTEM INTERFACE ${UNMASK_CUDA_INCLUDE})
  list(APPEND UNMASK_LIBRARIES ${UNMASK_CUDA_RUNTIME} ${CMAKE_DL_LIBS} rt)
else()
  message(STATUS "CUDA: not built")
endif()
