#include "net/url.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

bool tm_addr_is_loopback(const struct sockaddr *addr)
{
    if (addr->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)addr)->sin_addr.s_addr) >> 24 == 127;
    if (addr->sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr);
    return false;
}

static void take_address(const char *host, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1)
        out->ss_family = AF_INET;
    else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1)
        out->ss_family = AF_INET6;
}

static bool is_local(const struct tm_url *u)
{
    if (u->address.ss_family != AF_UNSPEC)
        return tm_addr_is_loopback((const struct sockaddr *)&u->address);
    return !strcasecmp(u->host, "localhost");
}

static const char *take_scheme(const char *url, const char *plain, const char *secure, struct tm_url *u)
{
    size_t plain_len = strlen(plain), secure_len = strlen(secure);
    u->tls = !strncasecmp(url, secure, secure_len) && !strncmp(url + secure_len, "://", 3);
    u->port = u->tls ? 443 : 80;
    if (u->tls)
        return url + secure_len + 3;
    if (!strncasecmp(url, plain, plain_len) && !strncmp(url + plain_len, "://", 3))
        return url + plain_len + 3;
    return NULL;
}

static bool take_host(const char **p, struct tm_url *u)
{
    bool brackets = **p == '[';
    const char *start = *p + brackets;
    size_t len = strcspn(start, brackets ? "]" : ":/?");
    if (!len || len > TM_URL_HOST_MAX || (brackets && start[len] != ']'))
        return false;
    memcpy(u->host, start, len);
    u->host[len] = '\0';
    *p = start + len + brackets;
    take_address(u->host, &u->address);
    if (brackets)
        return u->address.ss_family == AF_INET6;
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    return !u->host[strspn(u->host, allowed)];
}

static bool take_port(const char **p, struct tm_url *u)
{
    if (**p != ':')
        return true;
    size_t digits = strspn(*p + 1, "0123456789");
    unsigned long port = digits && digits <= 5 ? strtoul(*p + 1, NULL, 10) : 0;
    if (port < 1 || port > 65535)
        return false;
    u->port = (uint16_t)port;
    *p += 1 + digits;
    return true;
}

static bool take_path(const char *p, struct tm_url *u)
{
    if (*p && *p != '/' && *p != '?')
        return false;
    for (const char *c = p; *c; c++)
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f || *c == '#')
            return false;
    int n = snprintf(u->path, sizeof u->path, "%s%s", *p == '/' ? "" : "/", p);
    return n > 0 && (size_t)n < sizeof u->path;
}

static void make_authority(struct tm_url *u)
{
    bool v6 = strchr(u->host, ':');
    int n = snprintf(u->authority, sizeof u->authority, "%s%s%s", v6 ? "[" : "", u->host, v6 ? "]" : "");
    if (u->port != (u->tls ? 443 : 80))
        (void)snprintf(u->authority + n, sizeof u->authority - (size_t)n, ":%u", u->port);
}

int tm_url_parse(const char *url, const char *plain, const char *secure, struct tm_url *out, struct tm_error *err)
{
    struct tm_url u = {0};
    const char *p = take_scheme(url, plain, secure, &u);
    if (!p)
        return tm_error_set(err, TM_EINVAL, "URL \"%.300s\": expected %s:// or %s://", url, plain, secure);
    if (!take_host(&p, &u))
        return tm_error_set(err, TM_EINVAL,
                            "URL \"%.300s\": expected a host name or address of at most %d characters, without user or "
                            "password",
                            url, TM_URL_HOST_MAX);
    if (!take_port(&p, &u))
        return tm_error_set(err, TM_EINVAL, "URL \"%.300s\": expected a port from 1 to 65535 after \":\"", url);
    if (!take_path(p, &u))
        return tm_error_set(err, TM_EINVAL,
                            "URL \"%.300s\": expected a path of at most %d printable characters without fragment", url,
                            TM_URL_PATH_MAX);
    if (!u.tls && !is_local(&u))
        return tm_error_set(err, TM_EINVAL, "URL \"%.300s\": %s is allowed to loopback only; use %s", url, plain,
                            secure);
    make_authority(&u);
    *out = u;
    return TM_OK;
}
