# What the GPU's part is built from, by GPT_CUDA, and the languages that takes; build.cmake adds it to the
# libraries. Sets cuda (on, off, emulated) and nccl (on, off).
#   off       none of it
#   on        nvcc, cuBLASLt, NCCL
#   emulated  the same sources as C and C++ for the CPU, with the fakes of tests/cuda_on_cpu
#   auto      on where nvcc and cuBLASLt are found, else off

set(cuda ${GPT_CUDA})
if(cuda STREQUAL "auto" OR cuda STREQUAL "on")
    find_program(NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
    if(NVCC)
        get_filename_component(cuda_root ${NVCC} REALPATH)
        get_filename_component(cuda_root ${cuda_root}/../.. ABSOLUTE)
        set(cuda_lib_folders ${cuda_root}/lib64 ${cuda_root}/targets/x86_64-linux/lib ${cuda_root}/lib)
        find_library(CUBLASLT_LIBRARY cublasLt HINTS ${cuda_lib_folders})
        find_library(CUDART_LIBRARY cudart_static HINTS ${cuda_lib_folders})
        find_path(CUDA_INCLUDE cublasLt.h HINTS ${cuda_root}/include ${cuda_root}/targets/x86_64-linux/include)
    endif()
    if(NVCC AND CUBLASLT_LIBRARY AND CUDART_LIBRARY AND CUDA_INCLUDE)
        set(cuda on)
    elseif(cuda STREQUAL "on")
        message(FATAL_ERROR "GPT_CUDA=on, but there is no CUDA toolkit with nvcc and cuBLASLt (looked in PATH, "
            "CUDA_HOME and /usr/local/cuda; found nvcc: ${NVCC}, cuBLASLt: ${CUBLASLT_LIBRARY})")
    else()
        set(cuda off)
    endif()
elseif(NOT cuda STREQUAL "off" AND NOT cuda STREQUAL "emulated")
    message(FATAL_ERROR "GPT_CUDA=${cuda}: auto, on, off or emulated")
endif()

set(nccl off)
if(cuda STREQUAL "emulated")
    set(nccl on)
    if(GPT_NCCL STREQUAL "off")
        set(nccl off)
    endif()
elseif(cuda STREQUAL "on" AND NOT GPT_NCCL STREQUAL "off")
    find_path(NCCL_INCLUDE nccl.h HINTS ${CUDA_INCLUDE})
    find_library(NCCL_LIBRARY nccl HINTS ${cuda_lib_folders})
    if(NCCL_INCLUDE AND NCCL_LIBRARY)
        set(nccl on)
    elseif(GPT_NCCL STREQUAL "on")
        message(FATAL_ERROR "GPT_NCCL=on, but NCCL was not found (Debian: libnccl-dev)")
    endif()
endif()
message(STATUS "CUDA: ${cuda}, NCCL: ${nccl}")

# ---- languages -------------------------------------------------------------------------------------
if(cuda STREQUAL "on")
    set(CMAKE_CUDA_COMPILER ${NVCC})
    set(CMAKE_CUDA_ARCHITECTURES ${GPT_CUDA_ARCH})
    set(CMAKE_CUDA_STANDARD 17)
    set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
    # What launches need of C++ fits into a program linked as C.
    set(CMAKE_CUDA_FLAGS "${CMAKE_CUDA_FLAGS} -Xcompiler=-fno-exceptions,-fno-rtti,-fno-threadsafe-statics")
    enable_language(CUDA)
elseif(cuda STREQUAL "emulated")
    set(CMAKE_CXX_STANDARD 17)
    set(CMAKE_CXX_STANDARD_REQUIRED ON)
    set(CMAKE_CXX_EXTENSIONS OFF)
    set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
    enable_language(CXX)
endif()
