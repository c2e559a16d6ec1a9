# What only the package has, and in places outside of its prefix: settings, the user, the licence as Debian wants it, and
# compressed man pages.
set(source ${CMAKE_CURRENT_LIST_DIR}/../..)
set(root ${CPACK_TEMPORARY_DIRECTORY}) # which DESTDIR is, too: absolute destinations of file(INSTALL) are inside of it
set(readable PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
file(INSTALL DESTINATION /etc/tidemill TYPE FILE ${readable}
     FILES ${source}/lua/kalshi/gatherer.lua ${source}/lua/kalshi/deduplicator.lua)
file(INSTALL DESTINATION /etc/tidemill TYPE FILE PERMISSIONS OWNER_READ OWNER_WRITE
     FILES ${source}/scripts/systemd/gatherer.env ${source}/scripts/systemd/deduplicator.env)
file(INSTALL DESTINATION /usr/lib/sysusers.d TYPE FILE ${readable} RENAME tidemill.conf
     FILES ${source}/scripts/systemd/tidemill.sysusers)
file(INSTALL DESTINATION /usr/share/doc/tidemill TYPE FILE ${readable}
     FILES ${source}/scripts/debian/copyright)
file(GLOB pages ${root}/usr/share/man/man1/*.1)
execute_process(COMMAND gzip -9n ${pages} COMMAND_ERROR_IS_FATAL ANY)
