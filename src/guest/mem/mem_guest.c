/* SPDX-License-Identifier: MIT */
/* The mem guest: its memory, device state and the proof; see mem_guest.h. Its threads are in mem_threads.c. */
#include "guest/mem/mem_guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "guest/mem/mem_private.h"

enum { STATE_MAGIC = 0x47574d47, STATE_VERSION = 1, PAGES_MIN = 4, HOT_SHARE = 16 };

static const char *const WORKLOADS[GW__MEM_WORKLOADS] = {"uniform", "hot", "sweep", "burst", "discard", "sparse", "told", "untold"};

const char *gw__mem_workload_name(enum gw__mem_workload w) { return w < GW__MEM_WORKLOADS ? WORKLOADS[w] : NULL; }

/* --- Regions ------------------------------------------------------------------------------------------------------- */

/* The last page is the clock's. Each writer has a part of the rest, none less than a page; the first of a hot guest a sixteenth. */
static void lay_out(struct gw__mem_guest *g)
{
	uint64_t pages = g->pages - 1, first = 0;
	g->writers = g->o.writers ? g->o.writers : 1;
	if (g->o.workload == GW__MEM_HOT && g->writers < 2)
		g->writers = 2;
	if (g->writers > GW__MEM_WRITERS_MAX)
		g->writers = GW__MEM_WRITERS_MAX;
	while (g->writers > pages)
		g->writers--;
	for (unsigned i = 0; i < g->writers; i++) {
		uint64_t n = (pages - first) / (g->writers - i);
		if (g->o.workload == GW__MEM_HOT && i == 0)
			n = pages / HOT_SHARE ? pages / HOT_SHARE : 1;
		g->writer[i].region = (struct gw__mem_region){.seed = g->o.seed * 31 + i,
			.first = first,
			.pages = n,
			.in_order = g->o.workload == GW__MEM_SWEEP,
			.sparse = g->o.workload == GW__MEM_SPARSE};
		atomic_store(&g->writer[i].steps, 0);
		g->writer[i].guest = g;
		first += n;
	}
}

static const struct gw__mem_writer *writer_of(const struct gw__mem_guest *g, uint64_t page)
{
	const struct gw__mem_writer *w = g->writer;
	while (page - w->region.first >= w->region.pages)
		w++;
	return w;
}

static void fill(struct gw__mem_guest *g)
{
	uint64_t bytes;
	for (unsigned i = 0; i < g->writers; i++) {
		const struct gw__mem_region *r = &g->writer[i].region;
		for (uint64_t page = r->first; page < r->first + r->pages; page++)
			if (!gw__mem_is_zero(r, page, 0))
				gw__mem_write(r, page, 0, true, g->ram.host + page * GW__MEM_PAGE_BYTES, &bytes);
	}
}

/* --- New and free -------------------------------------------------------------------------------------------------- */

static void *map(const struct gw__mem_ram *ram)
{
	int how = ram->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *p = mmap(NULL, ram->bytes, PROT_READ | PROT_WRITE, how | MAP_NORESERVE, ram->fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

static int get_memory(struct gw__mem_guest *g, struct gw__error *error)
{
	if (g->o.shared) {
		g->ram.fd = memfd_create("godwit-mem-guest", MFD_CLOEXEC);
		if (g->ram.fd < 0 || ftruncate(g->ram.fd, (off_t)g->ram.bytes))
			return gw__error_errno(error, errno, "cannot make shared memory of %llu bytes", (unsigned long long)g->ram.bytes);
	}
	g->ram.host = map(&g->ram);
	g->alias = g->o.shared && g->ram.host ? map(&g->ram) : g->ram.host;
	if (!g->ram.host || !g->alias)
		return gw__error_errno(error, errno, "cannot map %llu bytes of memory", (unsigned long long)g->ram.bytes);
	return 0;
}

static int check_opts(const struct gw__mem_guest_opts *o, struct gw__error *error)
{
	if (o->bytes % GW__MEM_PAGE_BYTES || o->bytes < PAGES_MIN * (uint64_t)GW__MEM_PAGE_BYTES)
		return gw__error_set(error, -EINVAL, "a mem guest of %llu bytes: expected whole pages of %d bytes, at least %d of them",
			(unsigned long long)o->bytes, GW__MEM_PAGE_BYTES, PAGES_MIN);
	if (o->workload >= GW__MEM_WORKLOADS)
		return gw__error_set(error, -EINVAL, "there is no workload number %d", (int)o->workload);
	if ((o->workload == GW__MEM_TOLD || o->workload == GW__MEM_UNTOLD) && !o->shared)
		return gw__error_set(error, -EINVAL, "the workload \"%s\" writes through another mapping; give it shared memory",
			WORKLOADS[o->workload]);
	if (o->writers > GW__MEM_WRITERS_MAX)
		return gw__error_set(error, -EINVAL, "%u writers, at most %d", o->writers, GW__MEM_WRITERS_MAX);
	return 0;
}

int gw__mem_guest_new(struct gw__mem_guest **guest, const struct gw__mem_guest_opts *o, struct gw__error *error)
{
	*guest = NULL;
	int r = check_opts(o, error);
	if (r < 0)
		return r;
	struct gw__mem_guest *g = calloc(1, sizeof *g);
	if (!g)
		return gw__error_set(error, -ENOMEM, "no memory for a mem guest");
	g->o = *o;
	g->ram = (struct gw__mem_ram){.bytes = o->bytes, .fd = -1};
	g->pages = o->bytes / GW__MEM_PAGE_BYTES;
	gw__mem_threads_init(g);
	lay_out(g);
	r = get_memory(g, error);
	if (r < 0) {
		gw__mem_guest_free(g);
		return r;
	}
	if (!o->empty)
		fill(g);
	*guest = g;
	return 0;
}

void gw__mem_guest_free(struct gw__mem_guest *g)
{
	if (!g)
		return;
	gw__mem_threads_fini(g);
	if (g->alias && g->alias != g->ram.host)
		munmap(g->alias, g->ram.bytes);
	if (g->ram.host)
		munmap(g->ram.host, g->ram.bytes);
	if (g->ram.fd >= 0)
		close(g->ram.fd);
	free(g);
}

struct gw__mem_ram gw__mem_guest_ram(const struct gw__mem_guest *g) { return g->ram; }

/* --- Device state -------------------------------------------------------------------------------------------------- */

size_t gw__mem_guest_save(const struct gw__mem_guest *g, uint8_t state[GW__MEM_STATE_BYTES_MAX])
{
	struct gw__wr w = gw__wr_over(state, GW__MEM_STATE_BYTES_MAX);
	gw__wr_be32(&w, STATE_MAGIC);
	gw__wr_be32(&w, STATE_VERSION);
	gw__wr_be64(&w, g->pages);
	gw__wr_be64(&w, g->o.seed);
	gw__wr_be64(&w, g->o.steps_per_second);
	gw__wr_be32(&w, g->o.workload);
	gw__wr_be32(&w, g->writers);
	gw__wr_be64(&w, atomic_load(&g->ticks));
	gw__wr_be64(&w, g->last_tick_ns);
	gw__wr_be64(&w, atomic_load(&g->largest_gap_ns));
	for (unsigned i = 0; i < g->writers; i++)
		gw__wr_be64(&w, atomic_load(&g->writer[i].steps));
	return gw__wr_used(&w);
}

int gw__mem_guest_load(struct gw__mem_guest *g, const uint8_t *state, size_t bytes, struct gw__error *error)
{
	struct gw__rd r = gw__rd_over(state, bytes);
	struct gw__mem_guest_opts o = g->o;
	uint64_t steps[GW__MEM_WRITERS_MAX];
	if (gw__rd_be32(&r) != STATE_MAGIC || gw__rd_be32(&r) != STATE_VERSION)
		return gw__error_set(error, -EINVAL, "%zu bytes are no device state of a mem guest", bytes);
	uint64_t pages = gw__rd_be64(&r);
	o.seed = gw__rd_be64(&r);
	o.steps_per_second = gw__rd_be64(&r);
	o.workload = gw__rd_be32(&r);
	o.writers = gw__rd_be32(&r);
	uint64_t ticks = gw__rd_be64(&r), last = gw__rd_be64(&r), gap = gw__rd_be64(&r);
	for (unsigned i = 0; i < o.writers && i < GW__MEM_WRITERS_MAX; i++)
		steps[i] = gw__rd_be64(&r);
	if (r.cut || gw__rd_left(&r) || o.writers == 0)
		return gw__error_set(error, -EINVAL, "the device state of a mem guest ends at byte %zu of %zu", gw__rd_used(&r), bytes);
	if (pages != g->pages)
		return gw__error_set(error, -EINVAL, "the device state is that of a mem guest of %llu pages, this one has %llu",
			(unsigned long long)pages, (unsigned long long)g->pages);
	int refused = check_opts(&o, error);
	if (refused < 0)
		return refused;
	g->o = o;
	lay_out(g);
	if (g->writers != o.writers)
		return gw__error_set(error, -EINVAL, "%u writers do not fit a guest of %llu pages", o.writers, (unsigned long long)pages);
	for (unsigned i = 0; i < g->writers; i++)
		atomic_store(&g->writer[i].steps, steps[i]);
	atomic_store(&g->ticks, ticks);
	atomic_store(&g->largest_gap_ns, gap);
	g->last_tick_ns = last;
	g->ticked_here = false;
	return 0;
}

/* --- Proof --------------------------------------------------------------------------------------------------------- */

static enum gw__mem_verdict judge_clock(const struct gw__mem_guest *g, const uint8_t *bytes, uint64_t *version, uint64_t *off)
{
	uint64_t got[GW__MEM_PAGE_BYTES / 8], others = 0;
	memcpy(got, bytes, sizeof got);
	*version = atomic_load(&g->ticks);
	*off = got[0] > *version ? got[0] - *version : *version - got[0];
	for (unsigned i = 2; i < sizeof got / 8; i++)
		others |= got[i];
	if (others)
		return GW__MEM_WRONG;
	if (*off)
		return got[0] == 0 ? GW__MEM_MISSING : got[0] > *version ? GW__MEM_FUTURE : GW__MEM_STALE;
	return got[1] == g->last_tick_ns ? GW__MEM_RIGHT : GW__MEM_WRONG;
}

static enum gw__mem_verdict judge(const struct gw__mem_guest *g, uint64_t page, const uint8_t *bytes, uint64_t *version, uint64_t *off)
{
	uint64_t aligned[GW__MEM_PAGE_BYTES / 8];
	if (page == g->pages - 1)
		return judge_clock(g, bytes, version, off);
	if ((uintptr_t)bytes % sizeof(uint64_t))
		bytes = memcpy(aligned, bytes, sizeof aligned);
	const struct gw__mem_writer *w = writer_of(g, page);
	*version = gw__mem_version(&w->region, page, atomic_load(&w->steps));
	return gw__mem_judge(&w->region, page, *version, bytes, off);
}

static int say_faulty(const struct gw__mem_check *c, struct gw__error *error)
{
	static const char *const how[GW__MEM_VERDICTS] = {"right", "stale", "from the future", "missing (zero, which it never was)",
		"wrong"};
	uint64_t bad = c->pages - c->faulty[GW__MEM_RIGHT];
	unsigned long long off = c->off;
	gw__error_set(error, -EBADMSG, "the page at offset 0x%llx is %s: expected version %llu", (unsigned long long)c->offset,
		how[c->verdict], (unsigned long long)c->version);
	if (c->off)
		gw__error_hint(error, "got one %llu %s", off, c->verdict == GW__MEM_STALE ? "before it" : "after it");
	gw__error_hint(error, "%llu of %llu pages are not right (%llu stale, %llu from the future, %llu missing, %llu wrong)",
		(unsigned long long)bad, (unsigned long long)c->pages, (unsigned long long)c->faulty[GW__MEM_STALE],
		(unsigned long long)c->faulty[GW__MEM_FUTURE], (unsigned long long)c->faulty[GW__MEM_MISSING],
		(unsigned long long)c->faulty[GW__MEM_WRONG]);
	return -EBADMSG;
}

int gw__mem_guest_check(const struct gw__mem_guest *g, uint64_t first, uint64_t pages, const uint8_t *bytes, struct gw__mem_check *check,
	struct gw__error *error)
{
	struct gw__mem_check own, *c = check ? check : &own;
	*c = (struct gw__mem_check){0};
	if (first > g->pages || pages > g->pages - first)
		return gw__error_set(error, -ERANGE, "pages %llu to %llu: the mem guest has %llu", (unsigned long long)first,
			(unsigned long long)(first + pages), (unsigned long long)g->pages);
	if (!bytes)
		bytes = g->ram.host + first * GW__MEM_PAGE_BYTES;
	for (; c->pages < pages; c->pages++) {
		uint64_t version, off;
		enum gw__mem_verdict v = judge(g, first + c->pages, bytes + c->pages * GW__MEM_PAGE_BYTES, &version, &off);
		if (v != GW__MEM_RIGHT && c->faulty[GW__MEM_RIGHT] == c->pages) {
			c->offset = (first + c->pages) * GW__MEM_PAGE_BYTES;
			c->version = version;
			c->off = off;
			c->verdict = v;
		}
		c->faulty[v]++;
	}
	return c->faulty[GW__MEM_RIGHT] == c->pages ? 0 : say_faulty(c, error);
}
