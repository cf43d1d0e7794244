# The GPU in gpt_kernels and gpt_comm, by GPT_CUDA:
#   off       none of it
#   on        nvcc, cuBLASLt, NCCL
#   emulated  the same sources as C and C++ for the CPU, with the fakes of tests/cuda_on_cpu
#   auto      on where nvcc and cuBLASLt are found, else off

# ---- which -----------------------------------------------------------------------------------------
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
    set(nccl ${GPT_NCCL})
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

# ---- sources ---------------------------------------------------------------------------------------
file(GLOB cuda_host_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.c)
list(FILTER cuda_host_sources EXCLUDE REGEX "/workspace\\.c$") # the plan needs it on any machine
file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
set(cuda_sm80_sources ${cuda_sources}) # need compute capability 8.0
list(FILTER cuda_sm80_sources INCLUDE REGEX "_sm80\\.cu$")
set(nccl_source ${CMAKE_SOURCE_DIR}/comm/comm_nccl.c)

if(NOT cuda STREQUAL "off")
    target_sources(gpt_kernels PRIVATE ${cuda_host_sources})
    target_compile_definitions(gpt_kernels PRIVATE GPT_CUDA)
endif()
if(NOT nccl STREQUAL "off")
    target_sources(gpt_comm PRIVATE ${nccl_source})
    target_compile_definitions(gpt_comm PRIVATE GPT_NCCL)
endif()

# ---- for a GPU -------------------------------------------------------------------------------------
# gpt_cuda_objects(NAME FOLDER SOURCES ARCHITECTURES): compile kernels, with PTX of the newest.
function(gpt_cuda_objects name sources architectures)
    list(SORT architectures COMPARE NATURAL)
    list(POP_BACK architectures newest)
    list(TRANSFORM architectures APPEND "-real")
    add_library(${name} OBJECT ${sources})
    target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/src
        ${CMAKE_SOURCE_DIR}/kernels/cuda/ptx)
    set_target_properties(${name} PROPERTIES CUDA_ARCHITECTURES "${architectures};${newest}")
endfunction()

if(cuda STREQUAL "on")
    set(CMAKE_CUDA_COMPILER ${NVCC})
    set(CMAKE_CUDA_ARCHITECTURES ${GPT_CUDA_ARCH})
    set(CMAKE_CUDA_STANDARD 17)
    set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
    # What launches need of C++ fits into a program linked as C.
    set(CMAKE_CUDA_FLAGS "${CMAKE_CUDA_FLAGS} -Xcompiler=-fno-exceptions,-fno-rtti,-fno-threadsafe-statics")
    enable_language(CUDA)

    list(REMOVE_ITEM cuda_sources ${cuda_sm80_sources})
    gpt_cuda_objects(gpt_cuda_any "${cuda_sources}" "${GPT_CUDA_ARCH}")
    target_sources(gpt_kernels PRIVATE $<TARGET_OBJECTS:gpt_cuda_any>)
    set(new_architectures)
    foreach(architecture ${GPT_CUDA_ARCH})
        if(architecture GREATER_EQUAL 80)
            list(APPEND new_architectures ${architecture})
        endif()
    endforeach()
    if(NOT new_architectures) # without code for any card that would be asked to run it
        set(new_architectures 80)
    endif()
    gpt_cuda_objects(gpt_cuda_sm80 "${cuda_sm80_sources}" "${new_architectures}")
    target_sources(gpt_kernels PRIVATE $<TARGET_OBJECTS:gpt_cuda_sm80>)

    target_include_directories(gpt_kernels SYSTEM PUBLIC ${CUDA_INCLUDE})
    target_link_libraries(gpt_kernels PUBLIC ${CUBLASLT_LIBRARY} ${CUDART_LIBRARY} dl rt pthread)
    if(nccl STREQUAL "on")
        target_include_directories(gpt_comm SYSTEM PRIVATE ${NCCL_INCLUDE})
        target_link_libraries(gpt_comm PUBLIC ${NCCL_LIBRARY})
    endif()
endif()

# ---- on the CPU ------------------------------------------------------------------------------------
if(cuda STREQUAL "emulated")
    set(fakes ${CMAKE_SOURCE_DIR}/tests/cuda_on_cpu)
    set(CMAKE_CXX_STANDARD 17)
    set(CMAKE_CXX_STANDARD_REQUIRED ON)
    set(CMAKE_CXX_EXTENSIONS OFF)
    set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
    enable_language(CXX)
    set(emulated_options -O2 -ffp-contract=fast -fno-strict-aliasing -Wno-unknown-pragmas)
    if(GPT_NATIVE)
        list(APPEND emulated_options -march=native)
    endif()

    add_library(gpt_cuda_on_cpu STATIC ${fakes}/emulator.cpp ${fakes}/fake_cuda_runtime.cpp)
    file(GLOB fake_cublaslt CONFIGURE_DEPENDS ${fakes}/fake_cublaslt*.c)
    target_sources(gpt_cuda_on_cpu PRIVATE ${fake_cublaslt})
    target_include_directories(gpt_cuda_on_cpu PUBLIC ${fakes} ${CMAKE_SOURCE_DIR})
    target_compile_options(gpt_cuda_on_cpu PRIVATE ${emulated_options}
        $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions> $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>)
    target_link_libraries(gpt_cuda_on_cpu PUBLIC gpt_base m)
    if(GPT_SANITIZE MATCHES "thread") # its accesses are the hardware's
        set_source_files_properties(${fakes}/emulator.cpp PROPERTIES COMPILE_OPTIONS "-fno-sanitize=thread;-DEMU_TSAN=1")
    endif()

    set_source_files_properties(${cuda_sources} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${emulated_options}")
    target_sources(gpt_kernels PRIVATE ${cuda_sources})
    target_link_libraries(gpt_kernels PUBLIC gpt_cuda_on_cpu)
    if(NOT nccl STREQUAL "off")
        file(GLOB fake_nccl CONFIGURE_DEPENDS ${fakes}/fake_nccl*.c ${fakes}/fake_mpi*.c)
        target_sources(gpt_comm PRIVATE ${fake_nccl})
    endif()
endif()
