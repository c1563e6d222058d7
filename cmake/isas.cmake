# Each instruction set compiles these once more, with the flags below and CONVPOOL_ISA_<NAME>.
set(convpool_kernel_sources depthwise_planes.cpp depthwise_channels.cpp pooling.cpp dense.cpp isa_kernels.cpp)
list(TRANSFORM convpool_kernel_sources PREPEND cpp/src/kernels/)

set(convpool_flags_sse2 "")
# Loops start a cache line: where two threads share a core's front end, a 4 x 3 tile of AVX2 runs at 90 % of the peak, not
# at 79; sliding averages of AVX-512 change by a fifth with where other code puts them otherwise.
set(convpool_flags_avx2 -mavx2 -mfma -mtune=haswell -falign-loops=64)
# Tuned for a machine that splits a load from its uses: others fold it into each FMA, which halves the speed of small tiles.
set(convpool_flags_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512 -falign-loops=64)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND convpool_flags_avx512 -mtune=icelake-server)
endif()
set(convpool_flags_neon "")

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND NOT CMAKE_OSX_ARCHITECTURES STREQUAL "arm64")
  set(convpool_known_isas sse2 avx2 avx512)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$" OR CMAKE_OSX_ARCHITECTURES STREQUAL "arm64")
  set(convpool_known_isas neon)
else()
  message(FATAL_ERROR "convpool has no kernels for ${CMAKE_SYSTEM_PROCESSOR}; it knows x86-64 and aarch64")
endif()

# Compiles the kernels of every chosen ISA: <prefix>_<isa>. Leaves their objects in convpool_kernel_objects, and what the
# dispatcher must know in convpool_kernel_definitions.
macro(convpool_add_kernels prefix)
  set(convpool_chosen_isas ${CONVPOOL_ISAS})
  if(convpool_chosen_isas STREQUAL "all")
    set(convpool_chosen_isas ${convpool_known_isas})
  endif()
  list(GET convpool_known_isas 0 convpool_baseline)
  if(convpool_chosen_isas STREQUAL "baseline")
    set(convpool_chosen_isas ${convpool_baseline})
  endif()
  set(convpool_kernel_options -O3)
  if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
    # Instrumented inline, and at -O3, the kernels take many minutes to compile.
    set(convpool_kernel_options -O2 -fno-sanitize=undefined)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_FLAGS MATCHES "-fsanitize=address")
      list(APPEND convpool_kernel_options --param=asan-instrumentation-with-call-threshold=0 --param=asan-stack=0)
    endif()
  endif()
  if(NOT convpool_baseline IN_LIST convpool_chosen_isas)
    message(FATAL_ERROR "CONVPOOL_ISAS must hold ${convpool_baseline}, which every such machine can run")
  endif()
  # The strongest one takes longest to compile, and so comes first.
  list(REVERSE convpool_chosen_isas)
  set(convpool_kernel_objects "")
  set(convpool_kernel_definitions "")
  foreach(isa IN LISTS convpool_chosen_isas)
    if(NOT isa IN_LIST convpool_known_isas)
      message(FATAL_ERROR "CONVPOOL_ISAS has ${isa}; for ${CMAKE_SYSTEM_PROCESSOR} there are: ${convpool_known_isas}")
    endif()
    string(TOUPPER ${isa} ISA)
    add_library(${prefix}_${isa} OBJECT ${convpool_kernel_sources})
    target_compile_features(${prefix}_${isa} PRIVATE cxx_std_20)
    target_compile_definitions(${prefix}_${isa} PRIVATE CONVPOOL_ISA_${ISA})
    target_compile_options(${prefix}_${isa} PRIVATE ${convpool_kernel_options} -ffp-contract=fast -fno-math-errno -fno-trapping-math -Wall -Wextra
                                                    ${convpool_flags_${isa}})
    if(CONVPOOL_WERROR)
      target_compile_options(${prefix}_${isa} PRIVATE -Werror)
    endif()
    set_target_properties(${prefix}_${isa} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF
                                                      CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
    list(APPEND convpool_kernel_objects $<TARGET_OBJECTS:${prefix}_${isa}>)
    list(APPEND convpool_kernel_definitions CONVPOOL_HAVE_${ISA})
  endforeach()
endmacro()
