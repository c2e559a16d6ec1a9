#include "net/httpd_address.h"

#include "net/httpd.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* "address:port" or "[v6]:port" into its two parts; numeric both, so that nothing is looked up. */
static struct addrinfo *parse_address(const char *address)
{
    char host[64];
    const char *colon = strrchr(address, ':');
    bool brackets = *address == '[' && colon && colon > address + 1 && colon[-1] == ']';
    size_t len = colon ? (size_t)(colon - address) - (brackets ? 2 : 0) : 0;
    if (!len || len >= sizeof host || (!brackets && memchr(address, ':', len)))
        return NULL;
    memcpy(host, address + brackets, len);
    host[len] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *list = NULL;
    size_t digits = strspn(colon + 1, "0123456789");
    if (!digits || digits > 5 || colon[1 + digits] || atoi(colon + 1) > 65535)
        return NULL;
    return getaddrinfo(host, colon + 1, &hints, &list) ? NULL : list;
}

static int open_socket(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (!bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, 128))
        return fd;
    int cause = errno;
    close(fd);
    errno = cause;
    return -1;
}

int tm_httpd_port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &len))
        return 0;
    return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                          : ((struct sockaddr_in *)&at)->sin_port);
}

static int bind_error(const char *address, int cause, struct tm_error *err)
{
    if (cause == EADDRINUSE)
        return tm_error_set(err, TM_EIO, "cannot listen on %s: address in use; choose another address", address);
    if (cause == EADDRNOTAVAIL)
        return tm_error_set(err, TM_EINVAL, "cannot listen on %s: this machine does not have that address", address);
    if (cause == EACCES)
        return tm_error_set(err, TM_EDENIED, "cannot listen on %s: permission denied; choose a port from 1024 on",
                            address);
    return tm_error_errno(err, TM_EIO, cause, "cannot listen on %s", address);
}

static int address_error(const char *address, struct tm_error *err)
{
    return tm_error_set(err, TM_EINVAL,
                        "cannot listen on \"%s\": expected ADDRESS:PORT with a numeric address, such as "
                        "127.0.0.1:8080 or [::1]:8080",
                        address);
}

int tm_httpd_check_address(const char *address, struct tm_error *err)
{
    struct addrinfo *a = parse_address(address);
    if (!a)
        return address_error(address, err);
    freeaddrinfo(a);
    return TM_OK;
}

static bool is_wildcard(const struct addrinfo *a)
{
    if (a->ai_family == AF_INET6)
        return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)(const void *)a->ai_addr)->sin6_addr);
    return ((const struct sockaddr_in *)(const void *)a->ai_addr)->sin_addr.s_addr == htonl(INADDR_ANY);
}

static bool is_same_socket(const struct addrinfo *a, const struct addrinfo *b)
{
    if (a->ai_family != b->ai_family)
        return false; /* IPv6 sockets are V6ONLY */
    if (a->ai_family == AF_INET6) {
        const struct sockaddr_in6 *x = (const void *)a->ai_addr, *y = (const void *)b->ai_addr;
        return x->sin6_port && x->sin6_port == y->sin6_port &&
               (is_wildcard(a) || is_wildcard(b) || !memcmp(&x->sin6_addr, &y->sin6_addr, sizeof x->sin6_addr));
    }
    const struct sockaddr_in *x = (const void *)a->ai_addr, *y = (const void *)b->ai_addr;
    return x->sin_port && x->sin_port == y->sin_port &&
           (is_wildcard(a) || is_wildcard(b) || x->sin_addr.s_addr == y->sin_addr.s_addr);
}

bool tm_httpd_addresses_clash(const char *address, const char *other)
{
    if (strcmp(address, other) == 0)
        return false; /* one listener serves both */
    struct addrinfo *a = parse_address(address), *b = parse_address(other);
    bool clash = a && b && is_same_socket(a, b);
    if (a)
        freeaddrinfo(a);
    if (b)
        freeaddrinfo(b);
    return clash;
}

int tm_httpd_open(const char *address, int *fd, struct tm_error *err)
{
    struct addrinfo *a = parse_address(address);
    if (!a)
        return address_error(address, err);
    *fd = open_socket(a);
    int cause = errno;
    freeaddrinfo(a);
    return *fd < 0 ? bind_error(address, cause, err) : TM_OK;
}
