/* SPDX-License-Identifier: MIT */
/* Where a page server's monitor comes from: a keeper that holds it, or QEMU, and then a keeper is started. See lazy.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/lazy.h"

enum { ALIVE_MS = 5000 }; /* for an answer out of band */

static json_t *blocks_to_json(const struct gw__lazy *l)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < l->blocks_n; i++)
		json_array_append_new(list,
			json_pack("{s:s, s:I}", "name", l->blocks[i].name, "page", (json_int_t)l->blocks[i].page_bytes));
	return list;
}

static void blocks_from_json(struct gw__lazy *l, const json_t *list)
{
	size_t i;
	json_t *row;
	l->blocks = calloc(json_array_size(list) + 1, sizeof *l->blocks);
	json_array_foreach(list, i, row)
	{
		const char *name = json_string_value(json_object_get(row, "name"));
		if (!l->blocks || !name)
			return;
		snprintf(l->blocks[i].name, sizeof l->blocks[i].name, "%s", name);
		l->blocks[i].page_bytes = (uint64_t)json_integer_value(json_object_get(row, "page"));
		l->blocks_n = (unsigned)i + 1;
	}
}

static json_t *known_to_json(const struct gw__lazy *l)
{
	json_t *j = json_object();
	json_object_set_new(j, "past", gw__qmp_past(l->qmp));
	json_object_set_new(j, "phase", json_integer(l->phase));
	json_object_set_new(j, "identity", json_string(l->identity));
	json_object_set_new(j, "file", json_string(l->file));
	json_object_set_new(j, "written", json_string(l->written));
	json_object_set_new(j, "listened", gw__cli_json_text(l->listened));
	json_object_set_new(j, "reached", gw__cli_json_text(l->reached));
	if (l->before)
		json_object_set_new(j, "settings", gw__qmp_settings_to_json(l->before));
	if (l->blocks)
		json_object_set_new(j, "blocks", blocks_to_json(l));
	if (l->loading)
		json_object_set_new(j, "loading", json_true());
	if (l->tls_known)
		json_object_set_new(j, "tls", json_boolean(l->tls));
	if (l->preempt_known)
		json_object_set_new(j, "preempt", json_integer(l->preempt));
	return j;
}

static void copy(char *to, size_t bytes, const json_t *text)
{
	snprintf(to, bytes, "%s", json_is_string(text) ? json_string_value(text) : "");
}

static void known_from_json(struct gw__lazy *l, const json_t *j)
{
	json_int_t phase = json_integer_value(json_object_get(j, "phase"));
	json_t *blocks = json_object_get(j, "blocks"), *tls = json_object_get(j, "tls"), *preempt = json_object_get(j, "preempt");
	l->phase = phase == GW__KEEPER_RUNS || phase == GW__KEEPER_ASKED ? (enum gw__keeper_phase)phase : GW__KEEPER_IDLE;
	if (l->phase == GW__KEEPER_RUNS) { /* before, it has nothing of any image */
		copy(l->identity, sizeof l->identity, json_object_get(j, "identity"));
		copy(l->file, sizeof l->file, json_object_get(j, "file"));
		copy(l->written, sizeof l->written, json_object_get(j, "written"));
	}
	copy(l->listened, sizeof l->listened, json_object_get(j, "listened"));
	copy(l->reached, sizeof l->reached, json_object_get(j, "reached"));
	l->before = gw__qmp_settings_from_json(json_object_get(j, "settings"));
	l->loading = json_is_true(json_object_get(j, "loading"));
	l->tls_known = tls;
	l->tls = json_is_true(tls);
	l->preempt_known = preempt;
	l->preempt = (enum gw_preempt)json_integer_value(preempt);
	if (blocks)
		blocks_from_json(l, blocks);
}

void gw__lazy_note(struct gw__lazy *l, enum gw__keeper_phase phase)
{
	if (phase > l->phase)
		l->phase = phase;
	if (l->keeper.fd < 0)
		return;
	json_t *known = known_to_json(l);
	gw__keeper_keep(&l->keeper, gw__qmp_fd(l->qmp), l->phase, l->path, known);
	json_decref(known);
}

void gw__lazy_note_loaded(struct gw__lazy *l)
{
	l->loading = false;
	gw__lazy_note(l, GW__KEEPER_RUNS);
}

/* From a keeper: is there still a QEMU at the other end, and where does the next message begin? */
static int adopt(struct gw__lazy *l, struct gw__keeper_hand *hand)
{
	int fd = hand->monitor;
	l->link = hand->link;
	hand->monitor = hand->link = -1;
	int r = gw__qmp_adopt(fd, json_object_get(hand->known, "past"), l->keeper.turn, &l->qmp, &l->why);
	if (r)
		return r;
	gw__qmp_set_call_limit(l->qmp, ALIVE_MS);
	r = gw__qmp_call_oob(l->qmp, "query-yank", NULL, NULL, &l->why);
	gw__qmp_set_call_limit(l->qmp, GW__QMP_CALL_MS);
	if (r)
		return r;
	known_from_json(l, hand->known);
	gw__cli_detail("the monitor of this QEMU was kept by another process since its page server ended");
	return 0;
}

static void say_none(struct gw__why *why)
{
	gw__cli_detail("nothing keeps the monitor open if this process dies: %s",
		why->text[0] ? why->text : "no process can be started for it");
	gw__why_clear(why);
}

/* -EBUSY, -EEXIST and -ETIMEDOUT of another's; or 0, whether there is one or not. */
static int start_keeper(struct gw__lazy *l, const char *address)
{
	struct gw__why why = {0};
	int r = gw__keeper_start(&l->keeper, address, &why);
	l->refused = r == -EBUSY;
	if (r == -EBUSY || r == -EEXIST || r == -ETIMEDOUT)
		return gw__why_set(&l->why, r, "%s", why.text);
	if (r)
		say_none(&why);
	return 0;
}

/* 0: a keeper gave it; -ENOENT without a sentence: there is none. */
static int take_over(struct gw__lazy *l, const char *address, pid_t qemu)
{
	struct gw__keeper_hand hand;
	int r = address ? gw__keeper_find(&l->keeper, address, &hand, &l->why) : gw__keeper_find_pid(&l->keeper, qemu, &hand, &l->why);
	l->refused = r == -EBUSY;
	if (r)
		return r;
	if (hand.monitor < 0) { /* its page server died before it had a monitor */
		gw__keeper_dismiss(&l->keeper);
		gw__keeper_hand_fini(&hand);
		return -ENOENT;
	}
	r = adopt(l, &hand);
	gw__keeper_hand_fini(&hand);
	if (r == -ECONNRESET || r == -EPROTO)
		gw__keeper_dismiss(&l->keeper);
	else if (r)
		l->guest = GW__GUEST_UNKNOWN; /* the keeper has the only monitor that it may still hear */
	return r;
}

int gw__lazy_open(struct gw__lazy *l, const char *address, int timeout_ms)
{
	int fd = -1;
	int r = take_over(l, address, 0);
	if (r != -ENOENT)
		return r;
	if (l->why.code) /* one does not answer, and may be it */
		return l->why.code;
	if (!strncmp(address, "pid:", 4))
		return gw__why_set(&l->why, -ESRCH, "no page server has left a monitor of a QEMU with process number %s", address + 4);
	r = gw__qmp_dial(address, timeout_ms, &fd, &l->why);
	if (r)
		return r;
	r = take_over(l, NULL, gw__keeper_peer(fd));
	if (r != -ENOENT) {
		close(fd);
		return r;
	}
	if (l->why.code) /* one does not answer, and is rather another QEMU's: this one's would be found by the address */
		gw__cli_detail("%s", l->why.text);
	gw__why_clear(&l->why);
	r = start_keeper(l, address);
	if (r) {
		close(fd);
		return r;
	}
	r = gw__qmp_greet(fd, address, timeout_ms, &l->qmp, &l->why);
	if (r)
		gw__keeper_dismiss(&l->keeper);
	else
		gw__lazy_note(l, GW__KEEPER_IDLE);
	return r;
}

int gw__lazy_guard(struct gw__lazy *l, const char *address)
{
	pid_t qemu = gw__keeper_peer(gw__qmp_fd(l->qmp));
	if (!address)
		snprintf(l->name, sizeof l->name, "pid:%d", (int)qemu);
	int r = address || qemu ? start_keeper(l, address ? address : l->name) : 0;
	if (!r)
		gw__lazy_note(l, GW__KEEPER_IDLE);
	return r;
}
