# Headers, the libraries, and relocatable packages for find_package(convpool) and pkg-config.

include(CMakePackageConfigHelpers)
set(convpool_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/convpool)

# A set of targets for each kind of library: a static and a shared build may be installed into one prefix.
foreach(kind IN LISTS convpool_kinds)
  install(TARGETS convpool_${kind} EXPORT convpool_${kind}_targets
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
          INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT convpool_${kind}_targets NAMESPACE convpool:: FILE convpool-${kind}-targets.cmake
          DESTINATION ${convpool_package_dir})
endforeach()
install(DIRECTORY cpp/include/convpool DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")

configure_package_config_file(cmake/convpoolConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/convpoolConfig.cmake
                              INSTALL_DESTINATION ${convpool_package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/convpoolConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/convpoolConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/convpoolConfigVersion.cmake
        DESTINATION ${convpool_package_dir})

# pkg-config: the prefix is found from where the file lies, unless an absolute directory was asked for.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(pc_libdir ${CMAKE_INSTALL_FULL_LIBDIR})
  set(pc_includedir ${CMAKE_INSTALL_FULL_INCLUDEDIR})
  set(pc_prefix ${CMAKE_INSTALL_PREFIX})
else()
  file(RELATIVE_PATH pc_up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
  string(REGEX REPLACE "/$" "" pc_up "${pc_up}")
  set(pc_prefix "\${pcfiledir}/${pc_up}")
  set(pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
  set(pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
set(pc_private "")
if(CONVPOOL_USES_THREADS)
  list(APPEND pc_private pthread)
endif()
# What a C compiler doesn't link by itself.
foreach(library IN LISTS CMAKE_CXX_IMPLICIT_LINK_LIBRARIES)
  if(library MATCHES "^(stdc\\+\\+|c\\+\\+|c\\+\\+abi|m)$")
    list(APPEND pc_private ${library})
  endif()
endforeach()
list(REMOVE_DUPLICATES pc_private)
list(TRANSFORM pc_private PREPEND "-l")
list(JOIN pc_private " " pc_private)
set(pc_libs "-L\${libdir} -lconvpool")
if(NOT TARGET convpool_shared)
  string(APPEND pc_libs " ${pc_private}")
  set(pc_private "")
endif()
configure_file(cmake/convpool.pc.in ${CMAKE_CURRENT_BINARY_DIR}/convpool.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/convpool.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
