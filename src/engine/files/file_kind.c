/* SPDX-License-Identifier: MIT */
/*
 * Names files that are no image and no stream, but that people keep guests in: libvirt's save files, compressed ones, files of ours beside an
 * image. Says the way to the guest in one sentence; reads heads only, and believes no number in them. One thread.
 */
#include "engine/files/file_kind.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/math.h"
#include "wire/header.h"

typedef unsigned long long ull;

enum { HEAD_BYTES = 92, MAGIC_BYTES = 16, DATA_MAX_BYTES = 64 << 20 };

/* As libvirt numbers them. The two that are not compressed have no program. */
static const char *const programs[] = {NULL, "gzip", "bzip2", "xz", "lzop", "zstd", NULL};

static size_t read_at(int fd, uint64_t off, uint8_t *to, size_t n)
{
	size_t got = 0;
	for (ssize_t step; got < n; got += (size_t)step)
		if ((step = pread(fd, to + got, n - got, (off_t)(off + got))) <= 0)
			break;
	return got;
}

/* A path as it is in a command line, if a shell takes it for one word. */
static const char *shell_word(const char *path)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+-";
	return *path != '-' && path[strspn(path, plain)] == 0 ? path : "FILE";
}

static uint32_t number_at(const uint8_t *head, unsigned off, bool little)
{
	uint32_t v = (uint32_t)gw__be_get(head + off, 4);
	return little ? __builtin_bswap32(v) : v;
}

static int say_libvirt(int fd, const char *path, uint64_t base_off, const uint8_t head[HEAD_BYTES], struct gw__error *error)
{
	struct stat st = {0};
	bool part = !memcmp(head + 12, "Part", 4), little = number_at(head, 16, true) <= 0xffff;
	uint32_t data_bytes = number_at(head, 20, little), format = number_at(head, 28, little);
	uint64_t off = base_off + HEAD_BYTES + data_bytes;
	const char *what = part ? "an unfinished save file of libvirt, whose end may be missing" : "a save file of libvirt (virsh save)";
	if (number_at(head, 16, little) > 2 || data_bytes > DATA_MAX_BYTES || format >= GW__LEN(programs) || fstat(fd, &st) ||
		(S_ISREG(st.st_mode) && off >= (uint64_t)st.st_size))
		return gw__error_set(error, -EPROTO, "%s is %s, but its head is damaged or newer than version 2", path, what);
	if (programs[format])
		return gw__error_set(error, -EPROTO,
			"%s is %s; its guest is compressed and begins at offset %llu: give 'exec:tail -c +%llu %s | %s -dc' instead of it",
			path, what, (ull)off, (ull)off + 1, shell_word(path), programs[format]);
	return gw__error_set(error, -EPROTO, "%s is %s; its guest begins at offset %llu: give --offset=%llu", path, what, (ull)off,
		(ull)off);
}

int gw__stored_guest_name_kind(int fd, const char *path, uint64_t base_off, struct gw__error *error)
{
	uint8_t head[HEAD_BYTES];
	size_t n = read_at(fd, base_off, head, sizeof head);
	if (n == sizeof head && (!memcmp(head, "LibvirtQemudSave", MAGIC_BYTES) || !memcmp(head, "LibvirtQemudPart", MAGIC_BYTES)))
		return say_libvirt(fd, path, base_off, head, error);
	const struct gw__other_format *other = n < 8 ? NULL : gw__header_other((uint32_t)gw__be_get(head, 4));
	if (!other)
		return 0;
	if (!other->program)
		return gw__error_set(error, -EPROTO, "%s is %s%s%s", path, other->what, other->advice ? "; " : "",
			other->advice ? other->advice : "");
	if (base_off)
		return gw__error_set(error, -EPROTO, "%s is %s at offset %llu: give 'exec:tail -c +%llu %s | %s -dc' instead of it", path,
			other->what, (ull)base_off, (ull)base_off + 1, shell_word(path), other->program);
	return gw__error_set(error, -EPROTO, "%s is %s: give 'exec:%s -dc %s' instead of it", path, other->what, other->program,
		shell_word(path));
}
