/* SPDX-License-Identifier: MIT */
/* Small things every test of channels needs: URIs that must parse, limits, a folder of its own, threads. */
#ifndef GW_TESTS_CHAN_UNIT_H
#define GW_TESTS_CHAN_UNIT_H

#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "io/chan.h"

#define assert_says(error, part)                                                                                                           \
	do {                                                                                                                               \
		if (!strstr((error).text, (part)))                                                                                         \
			fail_msg("\"%s\" does not say \"%s\"", (error).text, (part));                                                      \
	} while (0)

static inline struct gw__io_opts limits(int ms) { return (struct gw__io_opts){.idle_ms = ms, .connect_ms = ms, .cancel_fd = -1}; }

static inline struct gw__uri uri_of(const char *text)
{
	struct gw__uri uri;
	struct gw__error error = {0};
	assert_ok(gw__uri_parse(text, &uri, &error), error);
	return uri;
}

static inline uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* A folder of its own, with room for paths in it; test group state. */
struct folder {
	char path[64];
	char file[128]; /* last one asked for */
	char text[256]; /* last URI asked for */
};

static inline int make_folder(void **state)
{
	struct folder *f = calloc(1, sizeof *f);
	strcpy(f->path, P_tmpdir "/godwit-unit-XXXXXX");
	if (!mkdtemp(f->path))
		return -1;
	*state = f;
	return 0;
}

static inline int remove_folder(void **state)
{
	struct folder *f = *state;
	DIR *d = opendir(f->path);
	for (struct dirent *e; d && (e = readdir(d));) {
		snprintf(f->file, sizeof f->file, "%s/%.60s", f->path, e->d_name);
		unlink(f->file);
	}
	closedir(d);
	int r = rmdir(f->path);
	free(f);
	return r;
}

static inline const char *path_of(struct folder *f, const char *name)
{
	snprintf(f->file, sizeof f->file, "%s/%s", f->path, name);
	return f->file;
}

static inline struct gw__uri uri_in(struct folder *f, const char *scheme, const char *name, const char *rest)
{
	snprintf(f->text, sizeof f->text, "%s:%s/%s%s", scheme, f->path, name, rest);
	return uri_of(f->text);
}

/* Reads exactly `n` bytes, or fails the test. */
static inline void read_all(struct gw__chan *c, void *to, size_t n)
{
	struct gw__error error = {0};
	for (size_t done = 0; done < n;) {
		ssize_t got = gw__chan_read(c, (char *)to + done, n - done, &error);
		if (got <= 0)
			fail_msg("%zu of %zu bytes, then %zd: %s", done, n, got, error.text);
		done += (size_t)got;
	}
}

#endif
