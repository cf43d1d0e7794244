# The GPU's part of gpt_kernels and gpt_comm: as find.cmake decided.

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
    target_link_libraries(gpt_kernels PUBLIC ${CMAKE_DL_LIBS}) # nvml.c
endif()
if(NOT nccl STREQUAL "off")
    target_sources(gpt_comm PRIVATE ${nccl_source})
    target_compile_definitions(gpt_comm PRIVATE GPT_NCCL)
endif()

# ---- for a GPU -------------------------------------------------------------------------------------
# gpt_cuda_objects(NAME SOURCES ARCHITECTURES): compile kernels, with PTX of the newest.
function(gpt_cuda_objects name sources architectures)
    list(SORT architectures COMPARE NATURAL)
    list(POP_BACK architectures newest)
    list(TRANSFORM architectures APPEND "-real")
    list(APPEND architectures ${newest})
    add_library(${name} OBJECT ${sources})
    target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/src
        ${CMAKE_SOURCE_DIR}/kernels/cuda/ptx)
    set_target_properties(${name} PROPERTIES CUDA_ARCHITECTURES "${architectures}")
endfunction()

if(cuda STREQUAL "on")
    list(REMOVE_ITEM cuda_sources ${cuda_sm80_sources})
    gpt_cuda_objects(gpt_cuda_any "${cuda_sources}" "${GPT_CUDA_ARCH}")
    target_sources(gpt_kernels PRIVATE $<TARGET_OBJECTS:gpt_cuda_any>)
    set(cuda_sm80_architectures)
    foreach(architecture ${GPT_CUDA_ARCH})
        if(architecture GREATER_EQUAL 80)
            list(APPEND cuda_sm80_architectures ${architecture})
        endif()
    endforeach()
    if(NOT cuda_sm80_architectures) # without code for any card that would be asked to run it
        set(cuda_sm80_architectures 80)
    endif()
    gpt_cuda_objects(gpt_cuda_sm80 "${cuda_sm80_sources}" "${cuda_sm80_architectures}")
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
    set(emulated_options -ffp-contract=fast -fno-strict-aliasing -Wno-unknown-pragmas)
    if(GPT_SANITIZE MATCHES "address") # attention takes a third of the time to compile
        list(APPEND emulated_options -O1)
    else()
        list(APPEND emulated_options -O2)
    endif()
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
        set_source_files_properties(${fakes}/emulator.cpp PROPERTIES COMPILE_OPTIONS "-fno-sanitize=thread;-fno-builtin;-DEMU_TSAN=1")
    endif()

    set_source_files_properties(${cuda_sources} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${emulated_options}")
    target_sources(gpt_kernels PRIVATE ${cuda_sources})
    target_link_libraries(gpt_kernels PUBLIC gpt_cuda_on_cpu)
    if(NOT nccl STREQUAL "off")
        file(GLOB fake_nccl CONFIGURE_DEPENDS ${fakes}/fake_nccl*.c ${fakes}/fake_mpi*.c)
        target_sources(gpt_comm PRIVATE ${fake_nccl})
    endif()
endif()
