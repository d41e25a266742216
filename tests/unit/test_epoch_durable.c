/* SPDX-License-Identifier: MIT */
/*
 * Epochs that survive their standby. Every write, sync and name is recorded while epochs are taken; then the power is cut after each of them: what was synced
 * is there, of what was not any sectors are. Whatever is left, the last epoch that was safe is recovered, byte for byte, and a file that was removed before
 * epoch 0 was made safe is not beside it. Then every call fails once, while epochs are taken and while they are recovered; and the last record is torn at each
 * kind of place.
 */
#include "image_kit.h"

#include <pthread.h>

#include "engine/colo/epoch_recover.h"
#include "engine/colo/epoch_sink.h"
#include "image/read/image.h"

enum {
	EPOCHS = 12,
	EXTENT_BYTES = 256 << 10,
	PAGES_MAX = 131,
	BLOCKS = 4,
	SECTOR = 512,
	FILES = 3 + EPOCHS,
	EVENTS_MAX = 8000,
	HISTORY = 4,
#ifdef __SANITIZE_ADDRESS__
	EACH = 5, /* one in five calls and cuts: a sanitizer takes 15 times as long, and the plain build has tried them all */
#else
	EACH = 1,
#endif
};

/* --- a recording --- */

enum kind { WRITE, SYNC, NAMED, SYNC_FOLDER, SAFE, REMOVED /* the older lock */ };

struct event {
	enum kind kind;
	int file;
	uint64_t off;
	size_t n;
	uint8_t *bytes; /* NULL: room, of zeros */
};

static const char *const names[FILES] = {"image.journal.0", "image.journal.1", "image.standby", "image.history.0", "image.history.1",
	"image.history.2", "image.history.3", "image.history.4", "image.history.5", "image.history.6", "image.history.7", "image.history.8",
	"image.history.9", "image.history.10", "image.history.11"};
static const char OLDER_LOCK[] = "owner.lock";
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct event events[EVENTS_MAX];
static unsigned events_n;
static bool recording;
static ino_t inode[FILES];
static unsigned until_failure; /* 0: nothing fails */
static int fails_with;

static bool turn(void)
{
	pthread_mutex_lock(&lock);
	bool mine = until_failure && --until_failure == 0;
	pthread_mutex_unlock(&lock);
	if (mine)
		errno = fails_with;
	return mine;
}

/* The one without a name is the image. */
static int file_of(int fd)
{
	struct stat st;
	if (fstat(fd, &st))
		return -1;
	if (S_ISDIR(st.st_mode))
		return FILES;
	for (int i = 0; i < FILES; i++)
		if (i != 2 && st.st_ino == inode[i])
			return i;
	return 2;
}

void *__real_malloc(size_t n);

static void note(enum kind kind, int file, uint64_t off, const struct iovec *v, int v_n, size_t n)
{
	assert_true(events_n < EVENTS_MAX);
	struct event *e = &events[events_n++];
	*e = (struct event){kind, file, off, n, v ? __real_malloc(n + 1) : NULL};
	for (size_t at = 0, i = 0; v && at < n && i < (size_t)v_n; at += v[i++].iov_len)
		memcpy(e->bytes + at, v[i].iov_base, v[i].iov_len < n - at ? v[i].iov_len : n - at);
}

#define WRAP(type, name, failure, params, args)                                                                                            \
	type __real_##name params;                                                                                                         \
	type __wrap_##name params;                                                                                                         \
	type __wrap_##name params { return turn() ? (failure) : __real_##name args; }

WRAP(void *, calloc, NULL, (size_t n, size_t size), (n, size))
WRAP(void *, malloc, NULL, (size_t n), (n))
WRAP(void *, realloc, NULL, (void *p, size_t size), (p, size))
WRAP(ssize_t, pread64, -1, (int fd, void *to, size_t n, off_t off), (fd, to, n, off))
WRAP(int, renameat, -1, (int from, const char *a, int to, const char *b), (from, a, to, b))

ssize_t __real_pwritev64(int fd, const struct iovec *v, int n, off_t off);
ssize_t __wrap_pwritev64(int fd, const struct iovec *v, int n, off_t off);
ssize_t __wrap_pwritev64(int fd, const struct iovec *v, int n, off_t off)
{
	if (turn())
		return -1;
	pthread_mutex_lock(&lock);
	ssize_t done = __real_pwritev64(fd, v, n, off);
	if (recording && done > 0)
		note(WRITE, file_of(fd), (uint64_t)off, v, n, (size_t)done);
	pthread_mutex_unlock(&lock);
	return done;
}

int __wrap_posix_fallocate64(int fd, off_t off, off_t n);
int __real_posix_fallocate64(int fd, off_t off, off_t n);
int __wrap_posix_fallocate64(int fd, off_t off, off_t n)
{
	if (turn())
		return fails_with;
	pthread_mutex_lock(&lock);
	int r = __real_posix_fallocate64(fd, off, n);
	if (recording && !r)
		note(WRITE, file_of(fd), (uint64_t)off, NULL, 0, (size_t)n);
	pthread_mutex_unlock(&lock);
	return r;
}

static int sync_it(int fd)
{
	if (turn())
		return -1;
	pthread_mutex_lock(&lock);
	int r = 0, file = recording ? file_of(fd) : -1; /* the host does not die here, so nothing has to wait for its disk */
	if (recording)
		note(file == FILES ? SYNC_FOLDER : SYNC, file, 0, NULL, 0, 0);
	pthread_mutex_unlock(&lock);
	return r;
}

int __wrap_fsync(int fd);
int __wrap_fsync(int fd) { return sync_it(fd); }
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd) { return sync_it(fd); }

int __real_linkat(int from, const char *a, int to, const char *b, int flags);
int __wrap_linkat(int from, const char *a, int to, const char *b, int flags);
int __wrap_linkat(int from, const char *a, int to, const char *b, int flags)
{
	if (turn())
		return -1;
	int r = __real_linkat(from, a, to, b, flags);
	if (recording && !r)
		note(NAMED, 2, 0, NULL, 0, 0);
	return r;
}

int __real_openat64(int at, const char *path, int flags, mode_t mode);
int __wrap_openat64(int at, const char *path, int flags, mode_t mode);
int __wrap_openat64(int at, const char *path, int flags, mode_t mode)
{
	if (turn())
		return -1;
	int fd = __real_openat64(at, path, flags, mode);
	struct stat st;
	for (int i = 0; recording && fd >= 0 && i < FILES; i++)
		if ((flags & O_CREAT) && !strcmp(path, names[i]) && !fstat(fd, &st)) {
			for (int k = 0; k < FILES; k++) /* of one that is gone */
				inode[k] = inode[k] == st.st_ino ? 0 : inode[k];
			inode[i] = st.st_ino;
			note(NAMED, i, 0, NULL, 0, 0);
		}
	return fd;
}

/* --- a guest whose pages are told by their generation --- */

static uint32_t generation[EPOCHS + 1][BLOCKS][PAGES_MAX];
static uint64_t rng = 11;

static uint32_t roll(uint32_t n)
{
	rng = rng * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rng >> 33) % n;
}

static size_t device_bytes(uint8_t *to, size_t room, uint32_t epoch)
{
	struct gw__wr c = gw__wr_over(to, room);
	kit_put_device(&c, 0, "timer", 0, epoch);
	kit_put_device(&c, 7, "apic", 0, epoch * 1000);
	kit_put_device(&c, 8, "apic", 1, epoch * 1000 + 1);
	gw__wr_u8(&c, GW__ITEM_EOF);
	return gw__wr_used(&c);
}

static int put_device(struct gw__sink *sink, uint32_t id, const char *idstr, uint32_t instance, uint64_t value, struct gw__error *error)
{
	uint8_t bytes[128];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	struct gw__section s = {.type = GW__ITEM_FULL, .id = id, .instance = instance, .version = 2};
	strcpy(s.idstr, idstr);
	kit_put_device(&c, id, idstr, instance, value);
	return gw__sink_device(sink, &s, 0, (struct gw__view){bytes, gw__wr_used(&c)}, error);
}

static int put_page(struct gw__sink *sink, uint32_t block, uint64_t i, uint32_t g, struct gw__error *error)
{
	uint8_t page[KIT_PAGE];
	const struct iovec iov = {page, sizeof page};
	kit_fill(page, block, i, g);
	return g ? gw__sink_pages(sink, block, i * KIT_PAGE, &iov, 1, error) : gw__sink_zeros(sink, block, i * KIT_PAGE, 1, error);
}

static uint64_t pages_of(const struct gw__blocks *blocks, uint32_t b) { return blocks->v[b].used_bytes / KIT_PAGE; }

static void imagine(const struct gw__blocks *blocks)
{
	for (uint32_t b = 0; b < blocks->n; b++)
		for (uint64_t i = 0; i < pages_of(blocks, b); i++)
			generation[0][b][i] = roll(3) ? 1 : 0;
	for (uint32_t e = 1; e <= EPOCHS; e++) {
		memcpy(generation[e], generation[e - 1], sizeof generation[e]);
		for (int n = 0; n < 25; n++) {
			uint32_t b = roll(blocks->n);
			generation[e][b][roll((uint32_t)pages_of(blocks, b))] = roll(4) ? e + 1 : 0;
		}
	}
}

/* As a standby does with the lock of an older guest, when all of the new one is here (lib/standby.c). */
static void remove_older_lock(void)
{
	kit_path path;
	kit_join(path, dir, OLDER_LOCK);
	if (!unlink(path) && recording)
		note(REMOVED, 0, 0, NULL, 0, 0);
}

/* Epoch 0. */
static int initial(struct gw__epoch_sink *s, const struct gw__blocks *blocks, struct gw__error *error)
{
	struct gw__sink *sink = gw__epoch_sink_store(s).ops->sink(s);
	struct gw__config config;
	kit_config(&config, false);
	int r = gw__sink_config(sink, &config, error);
	if (!r)
		r = put_device(sink, 0, "timer", 0, 0, error);
	if (!r)
		r = gw__sink_blocks(sink, KIT_RAM_ID, blocks, error);
	for (uint32_t b = 0; b < blocks->n; b++)
		for (uint64_t i = 0; !r && i < pages_of(blocks, b); i++)
			r = put_page(sink, b, i, generation[0][b][i], error);
	if (!r)
		r = gw__sink_switchover(sink, error);
	if (!r)
		r = gw__sink_ram_end(sink, error);
	if (!r)
		r = put_device(sink, 7, "apic", 0, 0, error);
	if (!r)
		r = put_device(sink, 8, "apic", 1, 1, error);
	if (!r)
		r = gw__sink_end(sink, (struct gw__view){(const uint8_t *)kit_description, sizeof kit_description - 1}, error);
	if (!r)
		r = gw__epoch_sink_store(s).ops->complete_guest(s, NULL, error);
	if (r)
		return r;
	remove_older_lock();
	return gw__epoch_sink_store(s).ops->start(s, error);
}

static int take_epoch(struct gw__epoch_sink *s, const struct gw__blocks *blocks, uint32_t e, struct gw__error *error)
{
	struct gw__sink *sink = gw__epoch_sink_store(s).ops->sink(s);
	uint8_t devices[512], *to;
	size_t n = device_bytes(devices, sizeof devices, e);
	int r = gw__epoch_sink_store(s).ops->begin(s, error);
	for (uint32_t b = 0; b < blocks->n; b++)
		for (uint64_t i = 0; !r && i < pages_of(blocks, b); i++)
			if (generation[e][b][i] != generation[e - 1][b][i])
				r = put_page(sink, b, i, generation[e][b][i], error);
	if (!r)
		r = gw__sink_ram_end(sink, error);
	if (!r)
		r = gw__epoch_sink_store(s).ops->reserve_devices(s, n, &to, error);
	if (!r)
		memcpy(to, devices, n);
	if (!r)
		r = gw__epoch_sink_store(s).ops->check(s, error);
	return r ? r : gw__epoch_sink_store(s).ops->persist(s, error);
}

static bool dies_before_the_merge;

static int die(struct gw__epoch_sink *s, int safe)
{
	gw__epoch_sink_free(&s);
	return safe;
}

/* How many epochs were safe before something failed, -1: none. The files stay as they are: we die. */
static int live(const char *path, const struct gw__blocks *blocks)
{
	const struct gw__epoch_sink_opts o = {.limit_bytes = 64 << 20, .durable = true, .extent_bytes = EXTENT_BYTES, .history = HISTORY};
	struct gw__error error = {0};
	struct gw__epoch_sink *s = NULL;
	int safe = -1;
	int r = gw__epoch_sink_new(path, &o, &s, &error);
	if (!r)
		r = initial(s, blocks, &error);
	for (uint32_t e = 1; !r; e++) {
		safe++;
		if (recording)
			note(SAFE, 0, 0, NULL, 0, 0);
		if (e > EPOCHS)
			break;
		r = take_epoch(s, blocks, e, &error);
		if (r)
			break;
		if (e == EPOCHS && dies_before_the_merge)
			return die(s, EPOCHS);
		gw__epoch_sink_store(s).ops->commit(s);
		r = gw__epoch_sink_store(s).ops->apply(s, &error);
		safe += r ? 1 : 0; /* it is safe all the same */
	}
	assert_true(!r || error.text[0]);
	gw__epoch_sink_free(&s);
	return safe;
}

/* --- what is left --- */

static void check_devices(const struct gw__image *g, uint32_t epoch)
{
	const uint64_t want[] = {epoch, epoch * UINT64_C(1000), epoch * UINT64_C(1000) + (epoch ? 1 : 1)};
	assert_int_equal(g->devices_n, 3);
	for (int i = 0; i < 3; i++) {
		uint8_t body[8];
		struct gw__error error = {0};
		assert_int_equal(g->devices[i].body_bytes, 8);
		assert_ok(gw__image_read_at(g, g->devices[i].body_off, body, 8, &error), error);
		assert_int_equal(gw__be_get(body, 8), want[i]);
	}
}

static void check_image(const char *path, uint32_t epoch, const char *when)
{
	struct gw__image *g;
	struct gw__error error = {0};
	uint8_t got[KIT_PAGE], want[KIT_PAGE];
	assert_ok(gw__image_open(path, 0, &g, &error), error);
	for (uint32_t b = 0; b < g->blocks.n; b++)
		for (uint64_t i = 0; i < pages_of(&g->blocks, b); i++) {
			memset(want, 0, sizeof want);
			if (generation[epoch][b][i])
				kit_fill(want, b, i, generation[epoch][b][i]);
			assert_ok(gw__image_read_pages(g, b, i, 1, got, &error), error);
			if (memcmp(got, want, sizeof got))
				fail_msg("%s: page %d of block %d is not that of epoch %d", when, (int)i, (int)b, (int)epoch);
		}
	check_devices(g, epoch);
	gw__image_close(g);
}

/* All epochs that are to be kept can be had; those before them cannot. */
static void check_history(const char *path, uint64_t last, const char *when)
{
	struct gw__error error = {0};
	struct gw__epoch_past *past;
	uint64_t told;
	size_t n;
	kit_path to;
	snprintf(to, sizeof to, "%.480s.epoch", path);
	assert_ok(gw__epoch_list(path, &told, &past, &n, &error), error);
	if (told != last || n < (last < HISTORY ? last : HISTORY))
		fail_msg("%s: %d epochs before %d, and epoch %d is the last one", when, (int)n, (int)told, (int)last);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(past[i].number, last - 1 - i);
		assert_ok(gw__epoch_export(path, past[i].number, to, &error), error);
		check_image(to, (uint32_t)past[i].number, when);
		unlink(to);
	}
	free(past);
	assert_int_equal(gw__epoch_export(path, last + 1, to, &error), -ENODATA);
}

/* `safe`: the last one that was, -1: none. False: none was found. */
static bool check_recovery(const char *path, int safe, const char *when)
{
	struct gw__error error = {0};
	uint64_t epoch = 0;
	int r = gw__epoch_recover(path, &epoch, &error);
	if (safe < 0 && r == -ENOENT)
		return false;
	if (r)
		fail_msg("%s, epoch %d was safe: %d %s", when, safe, r, error.text);
	if ((int)epoch != safe && (int)epoch != safe + 1)
		fail_msg("%s: epoch %d was recovered, %d was safe", when, (int)epoch, safe);
	check_image(path, (uint32_t)epoch, when);
	static unsigned n;
	if (n++ % 3 == 0)
		check_history(path, epoch, when);
	assert_int_equal(gw__epoch_recover(path, &epoch, &error), -ENOENT); /* and nothing is left of it */
	return true;
}

/* --- the power is cut --- */

/* Which sectors of a write that was not synced reached the disk: all, none, or any. */
static void write_some(int fd, const struct event *e, bool synced, uint32_t manner)
{
	static const uint8_t zeros[SECTOR];
	for (uint64_t at = e->off, end = e->off + e->n, n; at < end; at += n) {
		n = SECTOR - at % SECTOR < end - at ? SECTOR - at % SECTOR : end - at;
		bool there = synced || manner == 0 || (manner == 2 && roll(2));
		if (there && (e->bytes || manner != 1))
			assert_int_equal(pwrite(fd, e->bytes ? e->bytes + (at - e->off) : zeros, n, (off_t)at), n);
	}
}

/* Room that is reserved keeps what is there: it is a length only. */
static void reserve_some(int fd, const struct event *e, bool synced, uint32_t manner)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	bool there = synced || manner == 0 || (manner == 2 && roll(2));
	if (there && (uint64_t)st.st_size < e->off + e->n)
		assert_int_equal(ftruncate(fd, (off_t)(e->off + e->n)), 0);
}

static unsigned last_of(unsigned cut, enum kind kind, int file)
{
	unsigned last = 0;
	for (unsigned i = 0; i < cut; i++)
		if (events[i].kind == kind && (file < 0 || events[i].file == file))
			last = i + 1;
	return last;
}

/* What was removed before the folder was synced is gone; else it is still there, even beside what came after it: the worst case. */
static void rebuild_older_lock(const char *where, unsigned cut)
{
	kit_path path;
	unsigned removed = last_of(cut, REMOVED, -1);
	kit_join(path, where, OLDER_LOCK);
	if (!removed || removed > last_of(cut, SYNC_FOLDER, -1))
		kit_write_file(path, "1 -\n", 4, 0600);
}

/* A failover would take it for the proof that the new guest's primary is dead. */
static void check_older_lock(const char *where, const char *when)
{
	kit_path path;
	kit_join(path, where, OLDER_LOCK);
	if (!access(path, F_OK))
		fail_msg("%s: an epoch was found beside the lock of an older guest", when);
}

static void rebuild(const char *where, unsigned cut, uint32_t manner)
{
	unsigned folder = last_of(cut, SYNC_FOLDER, -1);
	rebuild_older_lock(where, cut);
	for (int f = 0; f < FILES; f++) {
		kit_path path;
		unsigned named = last_of(cut, NAMED, f), synced = last_of(cut, SYNC, f);
		kit_join(path, where, names[f]);
		unlink(path);
		if (!named || (named > folder && manner && (manner == 1 || roll(2))))
			continue;
		int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
		assert_true(fd >= 0);
		for (unsigned i = 0; i < cut; i++)
			if (events[i].kind == WRITE && events[i].file == f)
				(events[i].bytes ? write_some : reserve_some)(fd, &events[i], i < synced, manner);
		close(fd);
	}
}

static void forget_events(void)
{
	for (unsigned i = 0; i < events_n; i++)
		free(events[i].bytes);
	events_n = 0;
}

static void the_power_is_cut(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	kit_path path;
	char when[64];
	imagine(&blocks);
	kit_join(path, dir, OLDER_LOCK);
	kit_write_file(path, "1 -\n", 4, 0600);
	recording = true;
	assert_int_equal(live(image, &blocks), EPOCHS);
	recording = false;
	assert_true(last_of(events_n, REMOVED, -1));
	kit_path dead;
	kit_join(dead, dir, "dead");
	assert_int_equal(mkdir(dead, 0700), 0);
	kit_join(path, dead, "image");
	unsigned first = last_of(events_n, NAMED, 1), cuts = 0;
	for (unsigned cut = first; cut <= events_n; cut += EACH) {
		if (events[cut - 1].kind == WRITE && events[cut - 1].file == 2 && roll(8))
			continue; /* there are many, and all alike */
		int safe = -1;
		for (unsigned i = 0; i < cut; i++)
			safe += events[i].kind == SAFE;
		for (uint32_t manner = 0; manner < 3; manner++, cuts++) {
			snprintf(when, sizeof when, "cut after call %u of %u, manner %u", cut, events_n, manner);
			kit_remove_dir(dead);
			assert_int_equal(mkdir(dead, 0700), 0);
			rebuild(dead, cut, manner);
			if (check_recovery(path, safe, when))
				check_older_lock(dead, when);
		}
	}
	print_message("%u power cuts\n", cuts);
	assert_true(last_of(events_n, SYNC, 1) > last_of(events_n, NAMED, 2)); /* the extents took turns */
	forget_events();
	gw__blocks_fini(&blocks);
}

/* --- calls fail --- */

static void every_call_fails_once(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	static const int with[] = {EIO, ENOSPC};
	char when[64];
	unsigned failures = 0;
	imagine(&blocks);
	for (unsigned k = 0; k < 2; k++)
		for (unsigned n = 1;; n += (n < 300 ? 1 : 7) * (k ? 3 : 1) * EACH) {
			fails_with = with[k];
			until_failure = n;
			int safe = live(image, &blocks);
			bool failed = !until_failure;
			until_failure = 0;
			snprintf(when, sizeof when, "call %u failed with %d", n, with[k]);
			check_recovery(image, safe, when);
			kit_remove_dir(dir);
			assert_int_equal(mkdir(dir, 0700), 0);
			if (!failed)
				break; /* there was no such call */
			failures++;
		}
	print_message("%u failures\n", failures);
	assert_true(failures > 300 / EACH);
	gw__blocks_fini(&blocks);
}

static void every_call_of_a_recovery_fails_once(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	char when[64];
	imagine(&blocks);
	unsigned failures = 0;
	bool left = false;
	for (unsigned n = 1;; n += EACH) {
		struct gw__error error = {0};
		uint64_t epoch;
		if (!left)
			assert_int_equal(live(image, &blocks), EPOCHS);
		fails_with = EIO;
		until_failure = n;
		int r = gw__epoch_recover(image, &epoch, &error);
		bool failed = !until_failure;
		until_failure = 0;
		snprintf(when, sizeof when, "call %u of a recovery: %d", n, r);
		bool was_whole = left && r == -ENOENT; /* what had failed was the last step, behind which nothing is left to recover */
		if (!was_whole && (r ? !error.text[0] : epoch != EPOCHS))
			fail_msg("%s", when);
		if (!r || was_whole)
			check_image(image, EPOCHS, when);
		left = r && !was_whole;
		if (!failed)
			break; /* there was no such call */
		failures++;
	}
	print_message("%u failures\n", failures);
	assert_false(left);
	assert_true(failures > 10);
	gw__blocks_fini(&blocks);
}

/* --- the last record is torn --- */

struct tear {
	kit_path journal;
	uint8_t *bytes; /* as it was */
	size_t n;
	uint64_t off, index, devices, pages, end; /* of the record, and where its parts end */
};

/* The record with the highest epoch. */
static void find_last(struct tear *t)
{
	uint64_t last = 0;
	for (int f = 0; f < 2; f++) {
		kit_path path;
		size_t n;
		kit_join(path, dir, names[f]);
		uint8_t *bytes = kit_read_file(path, &n);
		bool here = false;
		for (size_t at = 0; at + 88 <= n; at += 4096)
			if (!memcmp(bytes + at, "GWEPOCH1", 8) && gw__be_get(bytes + at + 24, 8) > last) {
				last = gw__be_get(bytes + at + 24, 8);
				t->off = at;
				here = true;
			}
		if (here) {
			free(t->bytes);
			t->bytes = bytes;
			t->n = n;
			memcpy(t->journal, path, sizeof path);
		} else {
			free(bytes);
		}
	}
	assert_int_equal(last, EPOCHS);
	t->index = t->off + 88 + 24 * gw__be_get(t->bytes + t->off + 32, 8);
	t->devices = t->index + gw__be_get(t->bytes + t->off + 40, 8);
	t->pages = (t->devices + 4095) / 4096 * 4096;
	t->end = t->pages + gw__be_get(t->bytes + t->off + 48, 8);
}

/* The other files as they were; then the journal with this in it. */
static void check_torn(const struct tear *t, const char *copy, const uint8_t *bytes, size_t n, int epoch, const char *when)
{
	static const char *const all[] = {"image.journal.0", "image.journal.1", "image.standby"};
	for (int f = 0; f < 3; f++) {
		kit_path from, to;
		size_t size;
		kit_join(from, dir, all[f]);
		kit_join(to, copy, all[f]);
		uint8_t *whole = kit_read_file(from, &size);
		bool torn = !strcmp(from, t->journal);
		kit_write_file(to, torn ? bytes : whole, torn ? n : size, 0600);
		free(whole);
	}
	kit_path path;
	struct gw__error error = {0};
	uint64_t got = 0;
	kit_join(path, copy, "image");
	if (gw__epoch_recover(path, &got, &error))
		fail_msg("%s: %s", when, error.text);
	if ((int)got != epoch)
		fail_msg("%s: epoch %d was recovered, expected %d", when, (int)got, epoch);
	check_image(path, (uint32_t)epoch, when);
	unlink(path);
}

static void a_torn_tail_is_noticed(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	struct tear t = {0};
	kit_path copy;
	char when[64];
	imagine(&blocks);
	dies_before_the_merge = true;
	assert_int_equal(live(image, &blocks), EPOCHS);
	dies_before_the_merge = false;
	find_last(&t);
	kit_join(copy, dir, "copy");
	assert_int_equal(mkdir(copy, 0700), 0);
	const uint64_t parts[] = {t.off, t.off + 8, t.off + 24, t.off + 32, t.off + 40, t.off + 48, t.off + 56, t.off + 72, t.off + 88,
		t.index, t.devices, t.off + 4096, t.pages, t.pages + SECTOR, t.pages + KIT_PAGE, (t.pages + t.end) / 2, t.end - SECTOR,
		t.end};
	for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
		for (int d = -1; d <= 1; d++) {
			uint64_t at = parts[i] + (uint64_t)d;
			if (at < t.off || at > t.end)
				continue;
			int epoch = at >= t.end ? EPOCHS : EPOCHS - 1;
			snprintf(when, sizeof when, "cut off at %+d", (int)(at - t.off));
			check_torn(&t, copy, t.bytes, at, epoch, when);
			uint8_t *lost = malloc(t.n); /* or there are zeros */
			memcpy(lost, t.bytes, t.n);
			memset(lost + at, 0, t.n - at);
			bool same = !memcmp(lost, t.bytes, t.end);
			snprintf(when, sizeof when, "zeros from %+d on", (int)(at - t.off));
			check_torn(&t, copy, lost, t.n, same ? EPOCHS : EPOCHS - 1, when);
			if (at < t.end) {
				memcpy(lost, t.bytes, t.n);
				lost[at] ^= 4;
				snprintf(when, sizeof when, "a bit at %+d", (int)(at - t.off));
				check_torn(&t, copy, lost, t.n, EPOCHS - 1, when);
			}
			free(lost);
		}
	check_torn(&t, copy, t.bytes, t.n, EPOCHS, "as it was");
	free(t.bytes);
	gw__blocks_fini(&blocks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(the_power_is_cut),
		each_in_a_folder(every_call_fails_once),
		each_in_a_folder(every_call_of_a_recovery_fails_once),
		each_in_a_folder(a_torn_tail_is_noticed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
