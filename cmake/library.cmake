# The targets convpool::static and convpool::shared, and convpool::convpool, which is one of them.

set(convpool_kinds ${CONVPOOL_LIBRARIES})
if(convpool_kinds STREQUAL "auto")
  if(BUILD_SHARED_LIBS)
    set(convpool_kinds shared)
  elseif(DEFINED BUILD_SHARED_LIBS OR NOT convpool_for_development)
    set(convpool_kinds static)
  else()
    set(convpool_kinds both)
  endif()
endif()
if(convpool_kinds STREQUAL "both")
  set(convpool_kinds static shared)
endif()

set(convpool_warnings -Wall -Wextra -Wshadow -Wconversion -Wpedantic)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  list(APPEND convpool_warnings -Wno-restrict)  # false alarms on string concatenation, GCC bug 105651
endif()
if(CONVPOOL_WERROR)
  list(APPEND convpool_warnings -Werror)
endif()

set(CONVPOOL_USES_THREADS OFF)
if(CONVPOOL_THREADS)
  find_package(Threads REQUIRED)
  set(CONVPOOL_USES_THREADS ON)
endif()

# How every part is compiled: position-independent, and hidden unless a header says otherwise.
function(convpool_compile_as_part target)
  target_compile_features(${target} PUBLIC cxx_std_17 PRIVATE cxx_std_20)
  target_include_directories(${target}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/cpp/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
    PRIVATE ${PROJECT_SOURCE_DIR}/cpp/src)
  target_compile_options(${target} PRIVATE ${convpool_warnings})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden
                                             VISIBILITY_INLINES_HIDDEN ON)
endfunction()

# What lies behind the interfaces is the same in both libraries, and compiled once.
add_library(convpool_core OBJECT
  cpp/src/algorithms/depthwise.cpp
  cpp/src/algorithms/depthwise_interleaved.cpp
  cpp/src/algorithms/direct.cpp
  cpp/src/algorithms/direct_channels.cpp
  cpp/src/algorithms/direct_pixels.cpp
  cpp/src/algorithms/direct_sums.cpp
  cpp/src/algorithms/im2col.cpp
  cpp/src/algorithms/implicit_gemm.cpp
  cpp/src/algorithms/naive.cpp
  cpp/src/algorithms/plain_max_pool.cpp
  cpp/src/algorithms/sliding_pool.cpp
  cpp/src/algorithms/whole_plane_pool.cpp
  cpp/src/algorithms/window_pool.cpp
  cpp/src/algorithms/winograd.cpp
  cpp/src/block_sizes.cpp
  cpp/src/call_scope.cpp
  cpp/src/conv2d_choice.cpp
  cpp/src/conv2d_weights.cpp
  cpp/src/cpu_features.cpp
  cpp/src/geometry.cpp
  cpp/src/line_stage.cpp
  cpp/src/parallel.cpp
  cpp/src/patches.cpp
  cpp/src/thread_pool.cpp
  cpp/src/workspace.cpp)
convpool_compile_as_part(convpool_core)
target_compile_definitions(convpool_core PRIVATE CONVPOOL_HIDDEN)
if(CONVPOOL_USES_THREADS)
  set_source_files_properties(cpp/src/thread_pool.cpp PROPERTIES COMPILE_DEFINITIONS CONVPOOL_THREADS)
  target_link_libraries(convpool_core PRIVATE Threads::Threads)
endif()
convpool_add_kernels(convpool_core)
# They call kernels for much at a time: with -O3 they are 52 KB larger, and no faster (GCC 12).
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  set_source_files_properties(
    cpp/src/algorithms/window_pool.cpp
    cpp/src/algorithms/winograd.cpp
    cpp/src/conv2d_choice.cpp
    PROPERTIES COMPILE_OPTIONS "$<$<CONFIG:Release>:-O2>")
endif()

string(TOUPPER "${CMAKE_BUILD_TYPE}" convpool_build_type)
string(STRIP "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${convpool_build_type}}" convpool_flags)
set_source_files_properties(cpp/src/build_info.cpp PROPERTIES
  COMPILE_DEFINITIONS "CONVPOOL_FLAGS=\"${convpool_flags}\";CONVPOOL_BUILD_TYPE=\"${CMAKE_BUILD_TYPE}\"")

foreach(kind IN LISTS convpool_kinds)
  string(TOUPPER ${kind} KIND)
  set(library convpool_${kind})
  # The files that define the public interface: exported from the shared library alone.
  add_library(${library} ${KIND}
    cpp/src/build_info.cpp
    cpp/src/c_api.cpp
    cpp/src/conv2d.cpp
    cpp/src/conv2d_description.cpp
    cpp/src/dispatch.cpp
    cpp/src/machine.cpp
    cpp/src/pool2d.cpp
    cpp/src/threads.cpp
    $<TARGET_OBJECTS:convpool_core>
    ${convpool_kernel_objects})
  add_library(convpool::${kind} ALIAS ${library})
  convpool_compile_as_part(${library})
  target_compile_definitions(${library} PRIVATE ${convpool_kernel_definitions})
  set_target_properties(${library} PROPERTIES OUTPUT_NAME convpool EXPORT_NAME ${kind})
  if(CONVPOOL_USES_THREADS)
    target_link_libraries(${library} PRIVATE Threads::Threads)
  endif()
  if(kind STREQUAL "static")
    target_compile_definitions(${library} PRIVATE CONVPOOL_HIDDEN)
    # The names of local functions, of which kernels have many, are 4 % of a wheel's library.
    if(convpool_for_wheel AND CMAKE_STRIP AND NOT APPLE)
      add_custom_command(TARGET ${library} POST_BUILD
                         COMMAND ${CMAKE_STRIP} --strip-unneeded $<TARGET_FILE:${library}> VERBATIM)
    endif()
  else()
    # Before 1.0 a minor version may break.
    set_target_properties(${library} PROPERTIES VERSION ${PROJECT_VERSION}
                                                SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
    if(NOT APPLE)
      # The standard library's templates are visible whatever the flags; instances of them are no part of the interface.
      target_link_options(${library} PRIVATE "LINKER:--version-script=${PROJECT_SOURCE_DIR}/cpp/exports.map")
      set_target_properties(${library} PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/exports.map)
    endif()
  endif()
endforeach()

set(convpool_default static)
if(NOT TARGET convpool_static OR (TARGET convpool_shared AND BUILD_SHARED_LIBS))
  set(convpool_default shared)
endif()
add_library(convpool::convpool ALIAS convpool_${convpool_default})
