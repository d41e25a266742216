/* SPDX-License-Identifier: MIT */
/* QEMU's migration URIs as text and as a value (docs/spec/channels.md 1, mapped-ram.md 5). No fd is opened here. */
#ifndef GW_IO_URI_H
#define GW_IO_URI_H

#include <stdint.h>

#include "base/error.h"

enum gw__uri_kind { GW__URI_TCP, GW__URI_UNIX, GW__URI_VSOCK, GW__URI_FD, GW__URI_FILE, GW__URI_EXEC };

enum { GW__URI_TEXT_MAX = 4096 };

enum gw__uri_family { GW__URI_ANY_FAMILY, GW__URI_IPV4, GW__URI_IPV6 };

struct gw__uri {
	enum gw__uri_kind kind;
	char text[GW__URI_TEXT_MAX];   /* as given, for sentences */
	char target[GW__URI_TEXT_MAX]; /* tcp: host, "" for any; unix, file: path; exec: command */
	char port[32];                 /* tcp: as given (a number or a service) */
	enum gw__uri_family family;    /* tcp */
	uint16_t port_to;              /* tcp, listening: the last of the ports to try; 0: only the first */
	uint32_t cid, vsock_port;
	int fd;
	uint64_t offset; /* file: bytes before the stream; suffixes K M G T, 0x and fractions as QEMU takes them */
};

/* 0, or -EINVAL with a sentence that says what a good one looks like. A bare path is not a URI here. */
int gw__uri_parse(const char *text, struct gw__uri *uri, struct gw__error *error);

#endif
