/* SPDX-License-Identifier: MIT */
/* Addresses of sockets: from a URI, and back to text. Opens nothing but what the resolver opens. Any thread.
 */
#include "io/parts.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static void add(struct gw__addrs *addrs, const void *addr, size_t bytes)
{
	if (addrs->n == GW__ADDRS_MAX)
		return;
	struct gw__addr *a = &addrs->list[addrs->n++];
	a->bytes = (socklen_t)bytes;
	memcpy(&a->room, addr, bytes);
}

static int resolver_errno(int code)
{
	if (code == EAI_SYSTEM && errno)
		return -errno;
	return code == EAI_MEMORY ? -ENOMEM : -EHOSTUNREACH;
}

/* 0 or an EAI code; adds what was found. */
static int look_up(const struct gw__uri *uri, int family, int flags, struct gw__addrs *addrs)
{
	struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = flags}, *found;
	int code = getaddrinfo(*uri->target ? uri->target : NULL, uri->port, &hints, &found);
	if (code)
		return code;
	for (const struct addrinfo *a = found; a; a = a->ai_next)
		add(addrs, a->ai_addr, a->ai_addrlen);
	freeaddrinfo(found);
	return 0;
}

static int family_of(const struct gw__uri *uri)
{
	return uri->family == GW__URI_IPV4 ? AF_INET : uri->family == GW__URI_IPV6 ? AF_INET6 : AF_UNSPEC;
}

static int find_tcp(const struct gw__uri *uri, bool to_listen, struct gw__addrs *addrs, struct gw__error *error)
{
	int code;
	if (uri->port_to && !to_listen)
		return gw__error_set(error, -EINVAL, "%.200s: \"to\" is for a side that listens; give the one port to connect to",
			uri->text);
	if (!*uri->target && !to_listen)
		return gw__error_set(error, -EINVAL, "%.200s: no host to connect to; expected tcp:HOST:PORT", uri->text);
	if (!*uri->target) {
		code = uri->family == GW__URI_IPV4 ? EAI_FAMILY : look_up(uri, AF_INET6, AI_PASSIVE, addrs);
		if (uri->family != GW__URI_IPV6 && (code == 0 || code == EAI_FAMILY || code == EAI_ADDRFAMILY))
			code = look_up(uri, AF_INET, AI_PASSIVE, addrs);
	} else {
		code = look_up(uri, family_of(uri), to_listen ? AI_PASSIVE : 0, addrs);
	}
	if (code == EAI_SERVICE)
		return gw__error_set(error, -EINVAL, "%.200s: no service has the name \"%s\" here; give the number of the port", uri->text,
			uri->port);
	if (code)
		return gw__error_set(error, resolver_errno(code), "%.200s: cannot find this host: %s; is its name spelled right?",
			uri->text, gai_strerror(code));
	return 0;
}

static void find_unix(const struct gw__uri *uri, struct gw__addrs *addrs)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	memcpy(un.sun_path, uri->target, strnlen(uri->target, sizeof un.sun_path - 1));
	add(addrs, &un, sizeof un);
}

int gw__addrs_find(const struct gw__uri *uri, bool to_listen, struct gw__addrs *addrs, struct gw__error *error)
{
	addrs->n = 0;
	if (uri->kind == GW__URI_TCP)
		return find_tcp(uri, to_listen, addrs, error);
	if (uri->kind == GW__URI_UNIX) {
		find_unix(uri, addrs);
		return 0;
	}
	struct sockaddr_vm vm = {.svm_family = AF_VSOCK, .svm_cid = uri->cid, .svm_port = uri->vsock_port};
	add(addrs, &vm, sizeof vm);
	return 0;
}

void gw__addr_text(const struct gw__addr *addr, char *to, size_t bytes)
{
	char host[NI_MAXHOST], port[NI_MAXSERV];
	const struct sockaddr_vm *vm = (const struct sockaddr_vm *)&addr->room;
	if (addr->any.sa_family == AF_UNIX)
		snprintf(to, bytes, "unix:");
	else if (addr->any.sa_family == AF_VSOCK)
		snprintf(to, bytes, "vsock:%u:%u", vm->svm_cid, vm->svm_port);
	else if (getnameinfo(&addr->any, addr->bytes, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV))
		snprintf(to, bytes, "tcp:?");
	else
		snprintf(to, bytes, addr->any.sa_family == AF_INET6 ? "tcp:[%s]:%s" : "tcp:%s:%s", host, port);
}

uint16_t gw__addr_port(const struct gw__addr *addr)
{
	if (addr->any.sa_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)&addr->room)->sin_port);
	if (addr->any.sa_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)&addr->room)->sin6_port);
	return 0;
}

void gw__addr_set_port(struct gw__addr *addr, uint16_t port)
{
	if (addr->any.sa_family == AF_INET)
		((struct sockaddr_in *)&addr->room)->sin_port = htons(port);
	if (addr->any.sa_family == AF_INET6)
		((struct sockaddr_in6 *)&addr->room)->sin6_port = htons(port);
}

int gw__addr_socket(const struct gw__addr *addr)
{
	int fd = socket(addr->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

void gw__addr_set_no_delay(const struct gw__addr *addr, int fd)
{
	if (addr->any.sa_family == AF_INET || addr->any.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}
