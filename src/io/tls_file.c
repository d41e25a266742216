/* SPDX-License-Identifier: MIT */
/* Small files with secrets in them: read whole, wiped when done. No state; any thread. */
#include "io/tls_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX = 16 << 20, STEP = 16 << 10 };

void gw__tls_path(char path[GW__TLS_PATH_MAX], const char *dir, const char *name)
{
	int n = snprintf(path, GW__TLS_PATH_MAX, "%s/%s", dir, name);
	if (n < 0 || n >= GW__TLS_PATH_MAX)
		path[0] = 0;
}

void gw__tls_forget(gnutls_datum_t *secret)
{
	if (secret->data)
		gnutls_memset(secret->data, 0, secret->size);
	free(secret->data);
	*secret = (gnutls_datum_t){0};
}

/* realloc would leave a copy behind. */
static int grow(gnutls_datum_t *bytes, unsigned room)
{
	unsigned char *more = malloc(room);
	if (!more)
		return -ENOMEM;
	unsigned size = bytes->size;
	if (size)
		memcpy(more, bytes->data, size);
	gw__tls_forget(bytes);
	*bytes = (gnutls_datum_t){.data = more, .size = size};
	return 0;
}

static int read_to_end(int fd, const char *path, gnutls_datum_t *bytes, struct gw__error *error)
{
	for (unsigned room = 0;;) {
		if (bytes->size == room) {
			room += room ? room : STEP;
			if (room > FILE_MAX)
				return gw__error_set(error, -EFBIG, "%s: more than %d MiB; is this the right file?", path, FILE_MAX >> 20);
			if (grow(bytes, room))
				return gw__error_set(error, -ENOMEM, "%s: no memory to read it", path);
		}
		ssize_t got = read(fd, bytes->data + bytes->size, room - bytes->size);
		if (got < 0 && errno != EINTR)
			return gw__error_errno(error, errno, "%s: reading", path);
		if (got == 0)
			return 0;
		if (got > 0)
			bytes->size += (unsigned)got;
	}
}

int gw__tls_read_file(const char *path, gnutls_datum_t *bytes, struct gw__error *error)
{
	*bytes = (gnutls_datum_t){0};
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 && errno == ENOENT)
		return 1;
	if (fd < 0)
		return gw__error_errno(error, errno, "%s: opening", path);
	int r = read_to_end(fd, path, bytes, error);
	close(fd);
	if (r)
		gw__tls_forget(bytes);
	return r;
}
