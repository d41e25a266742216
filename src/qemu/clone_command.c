/* SPDX-License-Identifier: MIT */
/* Rewrites a command line for a clone; see clone_command.h. An option's value is text as QEMU takes it, "type,key=value,...", or a JSON object. */
#include "qemu/clone_command.h"

#include <errno.h>
#include <jansson.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/math.h"

#define HUGETLBFS 0x958458f6UL /* what statfs says of one */
enum { VALUE_BYTES = 4096 };

struct rewrite {
	struct gw__clone_command *c;
	const gw_info *info;
	const char *image;
	char *const *command;
	struct gw__error *error;
	unsigned n; /* of c->argv */
	bool mapped_any;
};

/* --- values of options --- */

/* The value of `key` in "type,key=value,..." or a JSON object, `type` being that in front; false: it has none. Two commas are one that is meant. */
static bool get_text(const char *value, const char *key, char *to, size_t bytes)
{
	size_t n = strlen(key), at = 0;
	bool first = true;
	*to = 0;
	for (const char *p = value; *p; first = false) {
		bool is_it = first && !strcmp(key, "type") && strcspn(p, ",") <= strcspn(p, "=");
		if (!is_it && !strncmp(p, key, n) && p[n] == '=') {
			is_it = true;
			p += n + 1;
		}
		for (at = 0; *p && (*p != ',' || p[1] == ','); p += *p == ',' ? 2 : 1)
			if (at + 1 < bytes)
				to[at++] = *p;
		to[at] = 0;
		if (is_it)
			return true;
		p += *p == ',';
	}
	*to = 0;
	return false;
}

static const char *json_key(const char *option, const char *key)
{
	if (strcmp(key, "type"))
		return key;
	return !strcmp(option, "object") ? "qom-type" : !strcmp(option, "device") ? "driver" : "type";
}

static bool get(const char *option, const char *value, const char *key, char *to, size_t bytes)
{
	json_t *j = *value == '{' ? json_loads(value, 0, NULL) : NULL;
	if (!j)
		return get_text(value, key, to, bytes) || get_text(value, json_key(option, key), to, bytes);
	const json_t *v = json_object_get(j, json_key(option, key));
	bool there = v != NULL;
	if (json_is_boolean(v))
		snprintf(to, bytes, "%s", json_is_true(v) ? "on" : "off");
	else if (json_is_string(v))
		snprintf(to, bytes, "%s", json_string_value(v));
	else if (json_is_integer(v))
		snprintf(to, bytes, "%lld", (long long)json_integer_value(v));
	else
		there = false;
	json_decref(j);
	return there;
}

static bool is_on(const char *option, const char *value, const char *key)
{
	char text[16];
	return get(option, value, key, text, sizeof text) && (!strcmp(text, "on") || !strcmp(text, "yes") || !strcmp(text, "true"));
}

/* The name after one dash or two; NULL: no option. */
static const char *option_of(const char *arg)
{
	if (arg[0] != '-' || !arg[1])
		return NULL;
	const char *name = arg + (arg[1] == '-' ? 2 : 1);
	return !strcmp(name, "M") ? "machine" : name;
}

/* The next value of that option at or after *i, which is set after it; NULL: no more. */
static const char *next_value(char *const *command, const char *option, unsigned *i)
{
	while (command[*i]) {
		const char *name = option_of(command[(*i)++]);
		if (name && !strcmp(name, option) && command[*i])
			return command[(*i)++];
	}
	return NULL;
}

/* --- what does not go with memory that is copied on write --- */

static int refuse(const struct rewrite *w, const char *fmt, ...) GW__PRINTF(2, 3);
static int refuse(const struct rewrite *w, const char *fmt, ...)
{
	char text[400];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	return gw__error_set(w->error, -EOPNOTSUPP, "a clone is not possible: %s", text);
}

static bool on_huge_pages(const char *path)
{
	struct statfs fs;
	char copy[VALUE_BYTES];
	snprintf(copy, sizeof copy, "%s", path);
	if (statfs(path, &fs) && statfs(dirname(copy), &fs))
		return false;
	return (unsigned long)fs.f_type == HUGETLBFS;
}

static int check_device(const struct rewrite *w, const char *option, const char *value)
{
	char type[64] = "";
	get(option, value, "type", type, sizeof type);
	if (!strncmp(type, "vfio", 4))
		return refuse(w, "%s lets hardware of the host write into all memory, which would copy every page; leave it out", type);
	if (!strncmp(type, "vhost-user", 10) || !strncmp(type, "vhost-vdpa", 10))
		return refuse(w, "%s needs memory that another process shares, and a clone has private memory; leave it out", type);
	return 0;
}

static int check_options(struct rewrite *w)
{
	static const char *const with_devices[] = {"device", "netdev", "chardev"};
	const char *v;
	int r = 0;
	for (unsigned k = 0; k < GW__LEN(with_devices); k++)
		for (unsigned i = 1; !r && (v = next_value(w->command, with_devices[k], &i));)
			r = check_device(w, with_devices[k], v);
	for (unsigned i = 1; !r && (v = next_value(w->command, "mem-path", &i));)
		if (on_huge_pages(v))
			r = refuse(w, "%s is on huge pages, and the image's file is not; leave -mem-path out", v);
	for (unsigned i = 1; !r && (v = next_value(w->command, "overcommit", &i));)
		if (is_on("overcommit", v, "mem-lock"))
			r = refuse(w, "mem-lock=on would copy every page; leave it out");
	return r;
}

static int check_backend(const struct rewrite *w, const char *id, const char *value)
{
	char path[VALUE_BYTES];
	if (is_on("object", value, "share"))
		return refuse(w, "the memory \"%s\" is shared, and a clone needs private memory; leave share=on out", id);
	if (is_on("object", value, "hugetlb") || (get("object", value, "mem-path", path, sizeof path) && on_huge_pages(path)))
		return refuse(w, "the memory \"%s\" is on huge pages, and the image's file is not; leave them out", id);
	return 0;
}

/* --- the new command line --- */

static int add(struct rewrite *w, const char *text)
{
	w->c->argv[w->n] = strdup(text);
	return w->c->argv[w->n++] ? 0 : gw__error_set(w->error, -ENOMEM, "no memory for a command line");
}

static bool find_block(const struct rewrite *w, const char *id, struct gw_info_block *b)
{
	static const char objects[] = "/objects/"; /* in machines before 4.0 */
	*b = (struct gw_info_block)GW_INIT(*b);
	for (uint32_t i = 0; gw_info_block(w->info, i, b) == 0; i++) {
		bool path = !strncmp(b->name, objects, sizeof objects - 1);
		if (!strcmp(path ? b->name + sizeof objects - 1 : b->name, id))
			return !b->ignored;
	}
	return false;
}

/* NVDIMMs, virtio-mem, ivshmem: their devices have a say in what their memory is. Only DIMMs do not. */
static bool is_of_device(const struct rewrite *w, const char *id)
{
	char type[64], memdev[256];
	const char *v;
	for (unsigned i = 1; (v = next_value(w->command, "device", &i));)
		if (get("device", v, "type", type, sizeof type) && strcmp(type, "pc-dimm") &&
			get("device", v, "memdev", memdev, sizeof memdev) && !strcmp(memdev, id))
			return true;
	return false;
}

static bool has_value(const struct rewrite *w, const char *option, const char *key)
{
	char text[256];
	const char *v;
	for (unsigned i = 1; (v = next_value(w->command, option, &i));)
		if (get(option, v, key, text, sizeof text))
			return true;
	return false;
}

static char *escaped(const char *text)
{
	char *to = malloc(2 * strlen(text) + 1), *p = to;
	for (; to && *text; text++) {
		*p++ = *text;
		if (*text == ',')
			*p++ = ',';
	}
	if (to)
		*p = 0;
	return to;
}

/* Of a backend that goes: what is not about where its memory comes from. */
static const char *const kept_keys[] = {"policy", "host-nodes", "merge", "dump"};

static char *mapping_text(const struct rewrite *w, const char *id, const struct gw_info_block *b, const char *old)
{
	char *path = escaped(w->image), *text = NULL, size[64], kept[1024] = "", value[200];
	for (unsigned i = 0; old && i < GW__LEN(kept_keys); i++) {
		size_t at = strlen(kept);
		if (get("object", old, kept_keys[i], value, sizeof value) && at + sizeof value + 32 < sizeof kept)
			snprintf(kept + at, sizeof kept - at, ",%s=%s", kept_keys[i], value);
	}
	if (!old || !get("object", old, "size", size, sizeof size))
		snprintf(size, sizeof size, "%llu", (unsigned long long)b->used_bytes);
	if (path && asprintf(&text, "memory-backend-file,id=%s,size=%s,mem-path=%s,offset=%llu,share=off,readonly=on,rom=off%s", id, size,
			    path, (unsigned long long)b->pages_off, kept) < 0)
		text = NULL;
	free(path);
	return text;
}

static char *mapping_json(const struct rewrite *w, const struct gw_info_block *b, const char *old)
{
	json_t *from = json_loads(old, 0, NULL);
	json_t *to = json_pack("{ss sO* sO* ss sI sb sb ss}", "qom-type", "memory-backend-file", "id", json_object_get(from, "id"), "size",
		json_object_get(from, "size"), "mem-path", w->image, "offset", (json_int_t)b->pages_off, "share", 0, "readonly", 1, "rom",
		"off");
	for (unsigned i = 0; to && i < GW__LEN(kept_keys); i++)
		if (json_object_get(from, kept_keys[i]))
			json_object_set(to, kept_keys[i], json_object_get(from, kept_keys[i]));
	char *text = to ? json_dumps(to, JSON_COMPACT) : NULL;
	json_decref(from);
	json_decref(to);
	return text;
}

/* "512M"; a plain number has that unit. 0: not understood, which is QEMU's to judge. */
static uint64_t size_in(const char *text, uint64_t unit)
{
	static const char suffixes[] = "BKMGTPE", lower[] = "bkmgtpe";
	char *end;
	unsigned long long n = strtoull(text, &end, 0);
	const char *at = *end ? strchr(suffixes, *end) : NULL, *small = *end ? strchr(lower, *end) : NULL;
	if (end == text || (*end && (end[1] || (!at && !small))))
		return 0;
	return *end ? (uint64_t)n << 10 * (at ? at - suffixes : small - lower) : n * unit;
}

static int check_size(const struct rewrite *w, const struct gw_info_block *b, uint64_t bytes)
{
	if (!bytes || bytes == b->used_bytes)
		return 0;
	return gw__error_set(w->error, -EINVAL,
		"RAM block \"%s\" was saved with %llu MiB and the command gives it %llu MiB; start it with the same memory size", b->name,
		(unsigned long long)b->used_bytes >> 20, (unsigned long long)bytes >> 20);
}

/* What -m says; QEMU's default without. */
static uint64_t main_bytes(const struct rewrite *w)
{
	char text[64] = "128M";
	const char *v;
	for (unsigned i = 1; (v = next_value(w->command, "m", &i));)
		if (!get("m", v, "type", text, sizeof text))
			get("m", v, "size", text, sizeof text);
	return size_in(text, 1 << 20);
}

/* `old`: the backend it takes the place of; NULL: the machine's own memory. */
static int add_mapping(struct rewrite *w, const char *id, const struct gw_info_block *b, const char *old)
{
	struct gw_info_summary s = GW_INIT(s);
	gw_info_summary(w->info, &s);
	if (!b->clonable)
		return refuse(w, "%s", s.not_clonable);
	char *value = old && *old == '{' ? mapping_json(w, b, old) : mapping_text(w, id, b, old), *all = NULL;
	int r = value ? add(w, "-object") : gw__error_set(w->error, -ENOMEM, "no memory for a command line");
	if (!r)
		r = add(w, value);
	if (!r && asprintf(&all, "%s%s-object %s", w->c->mapped ? w->c->mapped : "", w->c->mapped ? " " : "", value) >= 0) {
		free(w->c->mapped);
		w->c->mapped = all;
	}
	free(value);
	w->mapped_any = true;
	return r;
}

/* -object VALUE */
static int put_object(struct rewrite *w, const char *value)
{
	char type[64] = "", id[256] = "";
	struct gw_info_block b;
	get("object", value, "type", type, sizeof type);
	get("object", value, "id", id, sizeof id);
	bool maps = !strncmp(type, "memory-backend-", 15) && find_block(w, id, &b) && !is_of_device(w, id);
	int r = maps ? check_backend(w, id, value) : 0;
	if (!r && maps && get("object", value, "size", type, sizeof type))
		r = check_size(w, &b, size_in(type, 1));
	if (r || maps)
		return r ? r : add_mapping(w, id, &b, value);
	r = add(w, "-object");
	return r ? r : add(w, value);
}

/* A device that tells its guest that it is another one now, by a number that QEMU chooses. */
static int put_vmgenid(struct rewrite *w, const char *value)
{
	char id[128] = "", text[256];
	bool named = get("device", value, "id", id, sizeof id);
	snprintf(text, sizeof text, "vmgenid,guid=auto%s%s", named ? ",id=" : "", id);
	w->c->new_id = true;
	return add(w, text);
}

static int put_device(struct rewrite *w, const char *value)
{
	char type[64] = "";
	int r = add(w, "-device");
	get("device", value, "type", type, sizeof type);
	if (r)
		return r;
	return strcmp(type, "vmgenid") ? add(w, value) : put_vmgenid(w, value);
}

/* Every option but where memory comes from. */
static int put_all(struct rewrite *w)
{
	char *const *v = w->command;
	int r = add(w, v[0]);
	for (unsigned i = 1; !r && v[i]; i++) {
		const char *name = option_of(v[i]);
		if (name && !strcmp(name, "mem-prealloc"))
			continue;
		if (name && v[i + 1] && !strcmp(name, "mem-path"))
			i++;
		else if (name && v[i + 1] && !strcmp(name, "object"))
			r = put_object(w, v[++i]);
		else if (name && v[i + 1] && !strcmp(name, "device"))
			r = put_device(w, v[++i]);
		else
			r = add(w, v[i]);
	}
	return r;
}

/* Where -m says how much there is: the largest block; of two, the one with the name of a machine's memory. */
static bool find_main(const struct rewrite *w, struct gw_info_block *best)
{
	struct gw_info_block b = GW_INIT(b);
	*best = (struct gw_info_block)GW_INIT(*best);
	for (uint32_t i = 0; gw_info_block(w->info, i, &b) == 0; i++) {
		size_t n = strlen(b.name);
		bool named = n >= 3 && !strcmp(b.name + n - 3, "ram") && !strchr(b.name, '/');
		if (!b.ignored && !strchr(b.name, '/') && (b.used_bytes > best->used_bytes || (b.used_bytes == best->used_bytes && named)))
			*best = b;
	}
	return best->used_bytes > 0;
}

static int put_main(struct rewrite *w)
{
	char text[300];
	struct gw_info_block b;
	if (!find_main(w, &b))
		return refuse(w, "the image has no RAM block that -m could mean");
	int r = check_size(w, &b, main_bytes(w));
	if (!r)
		r = add_mapping(w, b.name, &b, NULL);
	snprintf(text, sizeof text, "memory-backend=%s", b.name);
	if (!r)
		r = add(w, "-machine");
	return r ? r : add(w, text);
}

int gw__clone_command_make(char *const *command, const gw_info *info, const char *image, struct gw__clone_command *c,
	struct gw__error *error)
{
	struct rewrite w = {.c = c, .info = info, .image = image, .command = command, .error = error};
	unsigned n = 0;
	while (command[n])
		n++;
	*c = (struct gw__clone_command){.argv = calloc(n + 8, sizeof *c->argv)};
	int r = c->argv ? check_options(&w) : gw__error_set(error, -ENOMEM, "no memory for a command line");
	if (!r)
		r = put_all(&w);
	if (!r && !has_value(&w, "machine", "memory-backend") && !has_value(&w, "numa", "memdev"))
		r = put_main(&w);
	if (!r && !w.mapped_any)
		r = refuse(&w, "this command names no memory that is a RAM block of the image");
	return r;
}

void gw__clone_command_free(struct gw__clone_command *c)
{
	for (unsigned i = 0; c->argv && c->argv[i]; i++)
		free(c->argv[i]);
	free(c->argv);
	free(c->mapped);
	*c = (struct gw__clone_command){0};
}
