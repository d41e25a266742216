/* SPDX-License-Identifier: MIT */
/*
 * The page server and what a destination may say to it: any bytes on the return path. It comes to a named end
 * with a sentence, and sends no page twice: all that leaves it is no more than the image once.
 *
 * An input: a byte (1 the destination resumes, 2 it has large pages in "ram0"), the lengths of two parts
 * (be16 each), and three parts: what is said at once, behind RESUME or the package, and behind the end of the
 * stream.
 */
#include "fuzz.h"

#include <godwit.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire/ram.h"

enum { PAGE = 4096, RAM_PAGES = 16, ROM_PAGES = 5, LARGE_PAGES = 4, ANSWER_MS = 5, INPUT_MAX = 64 << 10, HEAD_MAX = 64 };
enum { RESUMES = 1, LARGE = 2, PARTS = 3 };

static char image[64];

static void remove_image(void) { unlink(image); }

static void put_pages(struct gw__wr *w, const char *block, unsigned pages)
{
	static const uint8_t content[PAGE] = "a page";
	for (unsigned i = 0; i < pages; i++) {
		gw__wr_be64(w, i * PAGE | (i % 2 ? GW__RAM_PAGE : GW__RAM_ZERO));
		gw__wr_str8(w, block);
		if (i % 2)
			gw__wr_bytes(w, content, PAGE);
		else
			gw__wr_u8(w, 0);
	}
}

static void put_end(struct gw__wr *w)
{
	gw__wr_be64(w, GW__RAM_EOS);
	gw__wr_u8(w, 0x7e);
	gw__wr_be32(w, 1);
}

/* A guest of two blocks and no devices, as a stream (docs/spec/stream.md). */
static void put_guest(struct gw__wr *w)
{
	static const char machine[] = "pc-i440fx-11.1", devices[] = "{\"page_size\":4096,\"devices\":[]}";
	gw__wr_bytes(w, "QEVM\0\0\0\3\7", 9);
	gw__wr_be32(w, sizeof machine - 1);
	gw__wr_bytes(w, machine, sizeof machine - 1);
	gw__wr_bytes(w, "\1\0\0\0\1\3ram\0\0\0\0\0\0\0\4", 17);
	gw__wr_be64(w, (RAM_PAGES + ROM_PAGES) * PAGE | GW__RAM_MEM_SIZE);
	gw__wr_str8(w, "ram0");
	gw__wr_be64(w, RAM_PAGES * PAGE);
	gw__wr_str8(w, "rom");
	gw__wr_be64(w, ROM_PAGES * PAGE);
	put_end(w);
	gw__wr_bytes(w, "\2\0\0\0\1", 5);
	put_pages(w, "ram0", RAM_PAGES);
	put_pages(w, "rom", ROM_PAGES);
	put_end(w);
	gw__wr_bytes(w, "\3\0\0\0\1", 5);
	put_end(w);
	gw__wr_bytes(w, "\0\6", 2);
	gw__wr_be32(w, sizeof devices - 1);
	gw__wr_bytes(w, devices, sizeof devices - 1);
}

static void make_image(void)
{
	static uint8_t room[(RAM_PAGES + ROM_PAGES) * (PAGE + HEAD_MAX) + PAGE];
	struct gw__wr w = gw__wr_over(room, sizeof room);
	char stream[] = "/tmp/godwit-fuzz-XXXXXX";
	int fd = mkstemp(stream);
	gw_job *job = NULL;
	put_guest(&w);
	HOLDS(!w.full && fd >= 0 && write(fd, room, gw__wr_used(&w)) == (ssize_t)gw__wr_used(&w));
	snprintf(image, sizeof image, "%s.image", stream);
	HOLDS(!gw_job_new(&job) && !gw_convert(job, stream, image, NULL));
	gw_job_free(job);
	close(fd);
	unlink(stream);
	atexit(remove_image);
}

/* Behind which bytes of the source a part is said. */
static const struct mark {
	const char *bytes;
	size_t n;
} RESUME = {"\x08\0\x09\0\0", 5}, PACKAGE = {"\x08\0\x02\0\4\0\0\0\4", 9}, END = {"\x7e\0\0\0\1\0", 6};

struct peer {
	int fd;
	struct part {
		const uint8_t *bytes;
		size_t n;
		const struct mark *behind;
	} part[PARTS];
	size_t came; /* bytes */
};

static bool has(const uint8_t *bytes, size_t n, const struct mark *m)
{
	for (size_t i = 0; i + m->n <= n; i++)
		if (!memcmp(bytes + i, m->bytes, m->n))
			return true;
	return false;
}

/* The destination, on a thread of its own; the source may have gone while it speaks. */
static void *play(void *ctx)
{
	struct peer *p = ctx;
	uint8_t room[16 << 10];
	int at = 0;
	for (ssize_t n = 0; n >= 0; p->came += (size_t)n) {
		while (at < PARTS && (!p->part[at].behind || has(room, (size_t)n, p->part[at].behind))) {
			(void)!send(p->fd, p->part[at].bytes, p->part[at].n, MSG_NOSIGNAL);
			if (++at == PARTS)
				shutdown(p->fd, SHUT_WR);
		}
		n = recv(p->fd, room, sizeof room, 0);
		if (n <= 0)
			return NULL;
	}
	return NULL;
}

static void take_parts(struct peer *p, bool resumes, const uint8_t *data, size_t n)
{
	struct gw__rd c = gw__rd_over(data, n);
	size_t first = gw__rd_be16(&c), second = gw__rd_be16(&c), left = n - 4;
	first = first < left ? first : left;
	second = second < left - first ? second : left - first;
	data += 4;
	p->part[0] = (struct part){data, first, NULL};
	p->part[1] = (struct part){data + first, second, resumes ? &RESUME : &PACKAGE};
	p->part[2] = (struct part){data + first + second, left - first - second, &END};
}

static void check(gw_job *job, int r, const struct gw_serve_result *res, size_t sent)
{
	bool completed = res->state == GW_MIGRATION_COMPLETED, failed = res->state == GW_MIGRATION_FAILED;
	HOLDS(r <= 0 && (r == 0) == completed);
	HOLDS(r == 0 || gw_job_error(job)[0]);
	HOLDS(res->recoverable == (!completed && !failed));
	HOLDS(res->requested_pages + res->pushed_pages <= RAM_PAGES + ROM_PAGES);
	HOLDS(sent <= (RAM_PAGES + ROM_PAGES) * (PAGE + HEAD_MAX) + PAGE);
}

static int serve(gw_job *job, int fd, uint8_t mode, struct gw_serve_result *res)
{
	static const struct gw_serve_block large = {sizeof(struct gw_serve_block), "ram0", LARGE_PAGES * PAGE};
	struct gw_link_opts link = GW_INIT(link);
	struct gw_serve_opts o = GW_INIT(o);
	char uri[32];
	snprintf(uri, sizeof uri, "fd:%d", fd);
	o.link = &link;
	o.answer_timeout_ms = ANSWER_MS;
	o.resume = mode & RESUMES;
	o.block = &large;
	o.blocks = mode & LARGE ? 1 : 0;
	return gw_serve(job, image, uri, &o, res);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct gw_serve_result res = GW_INIT(res);
	gw_job *job = NULL;
	pthread_t thread;
	int fd[2];
	if (!image[0])
		make_image();
	if (n < 5 || n > INPUT_MAX)
		return 0;
	HOLDS(!gw_job_new(&job) && !socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
	struct peer peer = {.fd = fd[1]};
	take_parts(&peer, data[0] & RESUMES, data + 1, n - 1);
	HOLDS(!pthread_create(&thread, NULL, play, &peer));
	int r = serve(job, fd[0], data[0], &res);
	pthread_join(thread, NULL);
	check(job, r, &res, peer.came);
	gw_job_free(job);
	close(fd[1]);
	return 0;
}
