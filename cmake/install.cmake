# Headers, the library and a relocatable package for find_package(convpool).

include(CMakePackageConfigHelpers)
set(convpool_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/convpool)

install(TARGETS convpool EXPORT convpoolTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY cpp/include/convpool DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(EXPORT convpoolTargets NAMESPACE convpool:: DESTINATION ${convpool_package_dir})
configure_package_config_file(cmake/convpoolConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/convpoolConfig.cmake
                              INSTALL_DESTINATION ${convpool_package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/convpoolConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/convpoolConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/convpoolConfigVersion.cmake
        DESTINATION ${convpool_package_dir})
