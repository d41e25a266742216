/* SPDX-License-Identifier: MIT */
/* A source in postcopy-paused is made to come to us; see standin.h. */
#include "cli/standin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/guard.h"
#include "cli/pause.h"

enum {
	POLL_MS = 10,
	PAUSE_MS = 5000, /* for a source to notice that the link broke, before it is told so */
	CONNECT_MS = 30000,
	REPAIR_MS = 5000,
};

static void on_listening(void *ctx, const char *uri)
{
	struct gw__standin *s = ctx;
	snprintf(s->listening, sizeof s->listening, "%s", uri);
	gw__own_socket_listens(&s->own);
}

int gw__standin_await_paused(struct gw__qmp *q, const char *image, struct gw__qmp_migration *m, struct gw__why *why)
{
	for (int waited = 0;; waited += POLL_MS) {
		int r = gw__qmp_query_migrate(q, m, why);
		if (r)
			return r;
		if (!strcmp(m->status, "postcopy-paused"))
			return 0;
		if (m->ended || !m->status[0] || !strcmp(m->status, "none"))
			return GW__SHORT;
		if (image && waited == PAUSE_MS)
			gw__qmp_call_oob(q, "migrate-pause", NULL, NULL, NULL);
		bool hangs = image && waited > PAUSE_MS && gw__guard_check_hang(q, image, NULL);
		if (hangs || waited > 2 * PAUSE_MS)
			return gw__why_set(why, -ETIMEDOUT, "QEMU does not notice that the link broke (status \"%s\")", m->status);
		gw__cli_sleep_ms(POLL_MS);
	}
}

int gw__standin_come_back(struct gw__qmp *q, const char *image, const char *uri, struct gw__why *why)
{
	struct gw__qmp_migration m;
	int r = gw__standin_await_paused(q, image, &m, why);
	if (r == GW__SHORT)
		return gw__why_set(why, -EREMOTEIO, "QEMU ended the migration with status \"%s\": %s", m.status,
			m.error[0] ? m.error : "it does not say why");
	return r ? r : gw__qmp_call(q, "migrate", json_pack("{s:s, s:b}", "uri", uri, "resume", 1), NULL, why);
}

static int on_paused(void *ctx, const char *uri, const char *why)
{
	struct gw__standin *s = ctx;
	(void)uri, (void)why;
	return gw__standin_come_back(s->qmp, NULL, s->listening, &s->why);
}

static int ask_blocks(struct gw__standin *s)
{
	struct gw__qmp_migration m;
	unsigned n = 0;
	int r = gw__qmp_query_migrate(s->qmp, &m, &s->why);
	if (!r)
		r = gw__qmp_query_machine(s->qmp, &s->machine, &s->why);
	if (!r)
		r = gw__qmp_query_blocks(s->qmp, &s->names, &n, &s->why);
	if (r)
		return r;
	s->block = calloc(n + 1, sizeof *s->block);
	if (!s->block)
		return gw__why_set(&s->why, -ENOMEM, "no memory for %u RAM blocks", n);
	for (unsigned i = 0; i < n; i++)
		s->block[i] = (struct gw_drain_block){s->names[i].name, s->names[i].used_bytes, s->names[i].page_bytes};
	s->opts.machine = s->machine.machine;
	s->opts.page_bytes = m.page_bytes ? m.page_bytes : 4096;
	s->opts.blocks = n;
	s->opts.block = s->block;
	return 0;
}

static int make_address(struct gw__standin *s)
{
	if (s->listen)
		return 0;
	int r = gw__own_socket_make(&s->own, s->qmp, &s->why);
	s->listen = s->own.uri;
	s->link->peer_uid = &s->own.uid;
	return r;
}

int gw__standin_open(struct gw__standin *s)
{
	s->opts.size = sizeof s->opts;
	s->opts.early_answer = gw__qmp_version(s->qmp) >= 1000; /* docs/spec/postcopy.md 1.4 */
	s->opts.on_listening = on_listening;
	s->opts.on_paused = on_paused;
	s->opts.ctx = s;
	s->opts.link = s->link;
	int r = ask_blocks(s);
	return r ? r : make_address(s);
}

void gw__standin_close(struct gw__standin *s)
{
	free(s->block);
	free(s->names);
	s->block = NULL;
	s->names = NULL;
	gw__own_socket_remove(&s->own);
}

/* A source comes to a socket of our own in plain, whatever it used before. */
static int set_tls(struct gw__standin *s, const char *creds, struct gw__why *why)
{
	return gw__qmp_call(s->qmp, "migrate-set-parameters", json_pack("{s:s}", "tls-creds", creds), NULL, why);
}

static int give_back(struct gw__standin *s, struct gw__why *why)
{
	gw_job *job = NULL;
	int r = gw_job_new(&job);
	if (!r)
		r = gw_give_back(job, s->listen, &s->opts);
	if (r)
		gw__why_set(why, r, "%s", s->why.code ? s->why.text : job ? gw_job_error(job) : "no memory");
	gw_job_free(job);
	return r;
}

int gw__standin_give_back(struct gw__qmp *q, const struct gw__qmp_settings *before, struct gw__was was, struct gw__why *why)
{
	struct gw_link_opts link = GW_INIT(link);
	struct gw__standin s = {.qmp = q, .link = &link};
	struct gw__qmp_settings *now = NULL;
	link.connect_timeout_ms = CONNECT_MS;
	int r = gw__standin_open(&s);
	if (!r)
		r = gw__qmp_settings_save(q, &now, &s.why);
	const char *creds = r ? NULL : json_string_value(gw__qmp_settings_parameter(now, "tls-creds"));
	if (creds)
		r = set_tls(&s, "", &s.why);
	if (r)
		gw__why_set(why, r, "%s", s.why.text);
	if (!r && (r = give_back(&s, why)) && creds)
		set_tls(&s, creds, NULL); /* for who goes on with its save */
	if (!r)
		r = gw__guard_repair(q, before, was, REPAIR_MS, why);
	gw__qmp_settings_free(now);
	gw__standin_close(&s);
	return r;
}
