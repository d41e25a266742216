/* SPDX-License-Identifier: MIT */
/*
 * A golden capture (tests/captures) as a law test reads it: the JSON, the bytes unpacked and compared with
 * their sum, and a failure line that names it. Header only; one thread.
 */
#ifndef GW_TESTS_CAPTURE_H
#define GW_TESTS_CAPTURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <zstd.h>

#include "sha256.h"

static const char *current; /* the capture, for the failure line */

#define CHECK(cond)                                                                                                                        \
	do {                                                                                                                               \
		if (!(cond)) {                                                                                                             \
			fprintf(stderr, "%s:%d: %s: broken: %s\n", __FILE__, __LINE__, current, #cond);                                    \
			exit(1);                                                                                                           \
		}                                                                                                                          \
	} while (0)

static inline uint64_t capture_number(const json_t *j, const char *key)
{
	CHECK(json_is_integer(json_object_get(j, key)));
	return (uint64_t)json_integer_value(json_object_get(j, key));
}

/* NULL for null. */
static inline const char *capture_text(const json_t *j, const char *key) { return json_string_value(json_object_get(j, key)); }

static inline void *capture_file(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	CHECK(f && fseek(f, 0, SEEK_END) == 0);
	*n = (size_t)ftell(f);
	rewind(f);
	uint8_t *bytes = malloc(*n + 1);
	CHECK(bytes && fread(bytes, 1, *n, f) == *n);
	fclose(f);
	return bytes;
}

static inline json_t *capture_json(const char *folder, const char *name)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s.json", folder, name);
	json_t *j = json_load_file(path, 0, NULL);
	CHECK(j);
	return j;
}

/*
 * The bytes from `start` on of the part that `part` describes with "file", "size" and "sha256"; in memory of
 * exactly their size, so that ASan guards its end.
 */
static inline uint8_t *capture_bytes(const char *folder, const json_t *part, size_t start, size_t *n)
{
	char path[4096], sum[65];
	size_t packed_n, size = capture_number(part, "size");
	snprintf(path, sizeof path, "%s/%s", folder, capture_text(part, "file"));
	uint8_t *packed = capture_file(path, &packed_n), *all = malloc(size);
	CHECK(all && ZSTD_decompress(all, size, packed, packed_n) == size);
	free(packed);
	sha256(all, size, sum);
	CHECK(!strcmp(sum, capture_text(part, "sha256")));
	*n = size - start;
	uint8_t *bytes = malloc(*n);
	CHECK(bytes);
	memcpy(bytes, all + start, *n);
	free(all);
	return bytes;
}

#endif
