/*
 * What every request through libcurl keeps to, on a loop (net/http.h) or in a thread that waits (archive/s3_transport.h):
 * HTTP and HTTPS alone, TLS 1.2 or later with certificate and host name verified, no redirects, no proxy of the environment, no
 * signals.
 */
#ifndef TM_NET_CURL_H
#define TM_NET_CURL_H

#include <curl/curl.h>

void tm_curl_defaults(CURL *c);

#endif
