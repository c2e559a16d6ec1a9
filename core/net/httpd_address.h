/* The addresses that the HTTP server listens at. Private to it; what others may ask stands in httpd.h. */
#ifndef TM_NET_HTTPD_ADDRESS_H
#define TM_NET_HTTPD_ADDRESS_H

#include "base/error.h"

/* A listening socket at "address:port", not blocking. */
int tm_httpd_open(const char *address, int *fd, struct tm_error *err) TM_MUST_CHECK;

int tm_httpd_port_of(int fd);

#endif
