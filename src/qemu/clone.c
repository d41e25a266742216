/* SPDX-License-Identifier: MIT */
/* The file that is cloned, and who has mapped it; see clone.h. */
#include "qemu/clone.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qemu/monitor_broker.h"

enum { LINE_BYTES = 8192, NAME_BYTES = 256 };

#define TOO_OLD "a clone is not possible: %s cannot map a part of a file as memory that is copied on write; QEMU 8.2 and later can"

static int refuse(struct gw__error *error, const char *why)
{
	return gw__error_set(error, -EOPNOTSUPP, "a clone is not possible: %s", why);
}

int gw__clone_open(struct gw__clone *c, const char *path, struct gw__error *error)
{
	struct stat st;
	c->image_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (c->image_fd < 0)
		return gw__error_errno(error, errno, "cannot open %s", path);
	if (fstat(c->image_fd, &st) || !S_ISREG(st.st_mode))
		return refuse(error, "only a regular file can be mapped");
	c->image = realpath(path, NULL);
	snprintf(c->proc, sizeof c->proc, "/proc/self/fd/%d", c->image_fd);
	return c->image ? 0 : gw__error_errno(error, errno, "cannot find %s", path);
}

static bool is_same_file(const struct gw__clone *c, const char *path)
{
	struct stat ours, there;
	return !fstat(c->image_fd, &ours) && !stat(path, &there) && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

int gw__clone_check(struct gw__clone *c, const gw_info *info, char *const *command, struct gw__error *error)
{
	struct gw_info_summary s = GW_INIT(s);
	gw_info_summary(info, &s);
	if (!is_same_file(c, c->image))
		return gw__error_set(error, -EAGAIN, "%s was replaced while it was read; try again", c->image);
	if (s.format != GW_FORMAT_IMAGE || s.memory_only)
		return refuse(error, s.not_clonable);
	return command ? gw__clone_command_make(command, info, c->image, &c->command, error) : 0;
}

/* --- who has mapped it --- */

/* Does that process map the file from there on, for itself? Its own list of mappings tells, whatever has the file's name by now. */
static bool maps_file(pid_t pid, const struct stat *file, uint64_t off, bool *known)
{
	char path[64], line[LINE_BYTES];
	bool found = false;
	snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	FILE *f = fopen(path, "re");
	*known = f != NULL;
	while (f && !found && fgets(line, sizeof line, f)) {
		char perms[8] = "";
		uint64_t at = 0, inode = 0;
		if (sscanf(line, "%*s %7s %" SCNx64 " %*s %" SCNu64, perms, &at, &inode) == 3)
			found = inode == (uint64_t)file->st_ino && at == off && perms[3] == 'p';
	}
	if (f)
		fclose(f);
	return found;
}

static bool property_is(struct gw__qmp *q, const char *object, const char *name, json_t *want)
{
	json_t *said = NULL;
	bool is = want && gw__qmp_call(q, "qom-get", json_pack("{s:s, s:s}", "path", object, "property", name), &said, NULL) == 0 &&
		  json_equal(said, want);
	json_decref(said);
	json_decref(want);
	return is;
}

/* The properties of a memory backend, as a command line for a clone has them. */
static bool is_mapping(struct gw__qmp *q, const char *id, const struct gw_info_block *b)
{
	char object[NAME_BYTES + 16];
	if (strchr(id, '/')) /* of a device, or firmware */
		return false;
	snprintf(object, sizeof object, "/objects/%s", id);
	return property_is(q, object, "type", json_string("memory-backend-file")) &&
	       property_is(q, object, "offset", json_integer((json_int_t)b->pages_off)) &&
	       property_is(q, object, "size", json_integer((json_int_t)b->used_bytes)) && property_is(q, object, "share", json_false()) &&
	       property_is(q, object, "readonly", json_true()) && property_is(q, object, "rom", json_string("off"));
}

static const char *id_of(const char *block)
{
	static const char objects[] = "/objects/"; /* in machines before 4.0 */
	return strncmp(block, objects, sizeof objects - 1) ? block : block + sizeof objects - 1;
}

static struct gw_destination_block *find(struct gw__qemu_destination *there, const char *name)
{
	for (uint32_t i = 0; i < there->d.blocks; i++)
		if (!strcmp(there->block[i].name, name))
			return &there->block[i];
	return NULL;
}

/* What to start it with. */
static int none_mapped(struct gw__clone *c, const gw_info *info, struct gw__error *error)
{
	struct gw_info_block b = GW_INIT(b), best = GW_INIT(best);
	for (uint32_t i = 0; gw_info_block(info, i, &b) == 0; i++)
		if (b.used_bytes > best.used_bytes)
			best = b;
	return gw__error_set(error, -EOPNOTSUPP,
		"a clone is not possible: this QEMU does not map %s; start it with -machine memory-backend=%s -object "
		"memory-backend-file,id=%s,size=%" PRIu64 ",mem-path=%s,offset=%" PRIu64 ",share=off,readonly=on,rom=off",
		c->image, id_of(best.name), id_of(best.name), best.used_bytes, c->image, best.pages_off);
}

static int cannot_map(const gw_info *info, struct gw__error *error)
{
	struct gw_info_summary s = GW_INIT(s);
	gw_info_summary(info, &s);
	return refuse(error, s.not_clonable);
}

int gw__clone_find_mapped(struct gw__clone *c, struct gw__qmp *q, const gw_info *info, struct gw__qemu_destination *there,
	struct gw__error *error)
{
	struct gw_info_block b = GW_INIT(b);
	struct stat file;
	bool known = false;
	pid_t pid = gw__monitor_broker_peer(gw__qmp_fd(q));
	if (!gw__qmp_has_quirk(q, GW__QUIRK_MAPS_IMAGES))
		return gw__error_set(error, -EOPNOTSUPP, TOO_OLD, gw__qmp_version_text(q));
	c->mapped = calloc((size_t)there->d.blocks + 1, sizeof *c->mapped);
	if (!c->mapped || fstat(c->image_fd, &file))
		return gw__error_errno(error, c->mapped ? errno : ENOMEM, "cannot look at %s", c->image);
	for (uint32_t i = 0; gw_info_block(info, i, &b) == 0; i++) {
		struct gw_destination_block *block = b.ignored ? NULL : find(there, b.name);
		if (!block || !is_mapping(q, id_of(b.name), &b))
			continue;
		if (!b.clonable)
			return cannot_map(info, error);
		if (!maps_file(pid, &file, b.pages_off, &known))
			return gw__error_set(error, -EOPNOTSUPP,
				known ? "a clone is not possible: this QEMU maps another file as its memory \"%s\" than %s is now; restart "
					"this QEMU"
				      : "a clone is not possible: what this QEMU maps as its memory \"%s\" cannot be seen (is %s of another host, or the QEMU another user's?)",
				b.name, c->image);
		block->mapped = true;
		c->mapped[c->mapped_n++] = b.name;
	}
	return c->mapped_n ? 0 : none_mapped(c, info, error);
}

/* --- one that is too old --- */

/* The release that a program says it is, 100 * major + minor; 0: none. */
static unsigned ask_release(const char *program)
{
	int out[2];
	char text[512] = "";
	unsigned major = 0, minor = 0;
	if (pipe2(out, O_CLOEXEC))
		return 0;
	pid_t pid = fork();
	if (pid == 0) {
		dup2(out[1], STDOUT_FILENO);
		execlp(program, program, "-version", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	ssize_t n = read(out[0], text, sizeof text - 1); /* one line, in one write */
	close(out[0]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	text[n > 0 ? n : 0] = 0;
	const char *at = strstr(text, "version ");
	return at && sscanf(at + 8, "%u.%u", &major, &minor) == 2 ? 100 * major + minor : 0;
}

int gw__clone_explain_end(const char *program, struct gw__error *error)
{
	unsigned release = ask_release(program);
	if (!release || gw__qemu_has_quirk(release, GW__QUIRK_MAPS_IMAGES))
		return error->code;
	gw__error_clear(error);
	return gw__error_set(error, -EOPNOTSUPP, TOO_OLD, program);
}

void gw__clone_close(struct gw__clone *c)
{
	if (c->image_fd >= 0)
		close(c->image_fd);
	free(c->image);
	free(c->mapped);
	gw__clone_command_free(&c->command);
	*c = (struct gw__clone)GW__CLONE_INIT;
}
