/* SPDX-License-Identifier: MIT */
/* A source in postcopy-paused is made to come to us; see surrogate_destination.h. */
#include "qemu/surrogate_destination.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/watchdog.h"
#include "qmp/sleep.h"

enum {
	POLL_MS = 10,
	PAUSE_MS = 5000, /* for a source to notice that the link broke, before it is told so */
	ON_ITS_WAY_MS = 1000,
	CONNECT_MS = 30000,
	REPAIR_MS = 5000,
};

static void on_listening(void *ctx, const char *uri)
{
	struct gw__surrogate *s = ctx;
	snprintf(s->listening, sizeof s->listening, "%s", uri);
	gw__private_socket_listens(&s->own);
}

int gw__surrogate_await_paused(struct gw__qmp *q, const char *image, struct gw__qmp_migration *m, struct gw__error *error)
{
	for (int waited = 0;; waited += POLL_MS) {
		int r = gw__qmp_query_migrate(q, m, error);
		if (r)
			return r;
		if (m->state == GW__MIGRATION_POSTCOPY_PAUSED)
			return 0;
		if (m->ended || m->state == GW__MIGRATION_NONE)
			return GW__ENDED;
		if (image && waited == PAUSE_MS)
			gw__qmp_call_oob(q, "migrate-pause", NULL, NULL, NULL);
		bool hangs = image && waited > PAUSE_MS && gw__watchdog_check_hang(q, NULL);
		if (hangs || waited > 2 * PAUSE_MS)
			return gw__error_set(error, -ETIMEDOUT, "QEMU does not notice that the link broke (status \"%s\")", m->status);
		gw__sleep_ms(POLL_MS);
	}
}

/* It has connected, and nobody has answered it yet: the connection that came to nothing was somebody else's. */
static bool is_on_its_way(struct gw__qmp *q)
{
	struct gw__qmp_migration m = {0};
	for (int waited = 0; waited < ON_ITS_WAY_MS; waited += POLL_MS) {
		int r = gw__qmp_query_migrate(q, &m, NULL);
		if (r || (m.state != GW__MIGRATION_POSTCOPY_RECOVER_SETUP && m.state != GW__MIGRATION_POSTCOPY_RECOVER))
			return false;
		gw__sleep_ms(POLL_MS);
	}
	return true;
}

/* A 7.2 says postcopy-paused until its connection stands, and takes a second order meanwhile. */
static void await_on_its_way(struct gw__qmp *q)
{
	struct gw__qmp_migration m = {0};
	for (int waited = 0; waited < PAUSE_MS; waited += POLL_MS) {
		if (gw__qmp_query_migrate(q, &m, NULL) || m.state != GW__MIGRATION_POSTCOPY_PAUSED)
			return;
		gw__sleep_ms(POLL_MS);
	}
}

int gw__surrogate_come_back(struct gw__qmp *q, const char *image, struct gw__surrogate_address at, struct gw__error *error)
{
	struct gw__qmp_migration m;
	if (at.others_may_connect && is_on_its_way(q))
		return 0;
	int r = gw__surrogate_await_paused(q, image, &m, error);
	if (r == GW__ENDED)
		return gw__error_set(error, -EREMOTEIO, "QEMU ended the migration with status \"%s\": %s", m.status,
			m.error[0] ? m.error : "no reason given");
	if (!r)
		r = gw__qmp_call(q, "migrate", json_pack("{s:s, s:b}", "uri", at.uri, "resume", 1), NULL, error);
	if (!r && at.others_may_connect) /* before a stranger's end can be taken for that of this connection */
		await_on_its_way(q);
	return r;
}

static int on_paused(void *ctx, const char *uri, const char *error)
{
	struct gw__surrogate *s = ctx;
	(void)uri, (void)error;
	int r = gw__surrogate_come_back(s->qmp, NULL, (struct gw__surrogate_address){s->listening, !s->own.folder[0]}, &s->error);
	s->stayed_away = r < 0;
	return r;
}

static int ask_blocks(struct gw__surrogate *s)
{
	struct gw__qmp_migration m;
	unsigned n = 0;
	int r = gw__qmp_query_migrate(s->qmp, &m, &s->error);
	if (!r)
		r = gw__qmp_query_machine(s->qmp, &s->machine, &s->error);
	if (!r)
		r = gw__qmp_query_blocks(s->qmp, &s->names, &n, &s->error);
	if (r)
		return r;
	s->block = calloc(n + 1, sizeof *s->block);
	if (!s->block)
		return gw__error_set(&s->error, -ENOMEM, "no memory for %u RAM blocks", n);
	for (unsigned i = 0; i < n; i++)
		s->block[i] = (struct gw_drain_block){sizeof *s->block, s->names[i].name, s->names[i].used_bytes, s->names[i].page_bytes};
	s->opts.machine = s->machine.machine;
	s->opts.page_bytes = m.page_bytes ? m.page_bytes : 4096;
	s->opts.blocks = n;
	s->opts.block = s->block;
	return 0;
}

static int make_address(struct gw__surrogate *s)
{
	if (s->listen)
		return 0;
	int r = gw__private_socket_make(&s->own, s->qmp, &s->error);
	s->listen = s->own.uri;
	s->link->peer_uid = &s->own.uid;
	return r;
}

int gw__surrogate_open(struct gw__surrogate *s)
{
	s->opts.size = sizeof s->opts;
	s->opts.early_answer = gw__qmp_has_quirk(s->qmp, GW__QUIRK_TAKES_EARLY_SHUT);
	s->opts.on_listening = on_listening;
	s->opts.on_paused = on_paused;
	s->opts.ctx = s;
	s->opts.link = s->link;
	int r = ask_blocks(s);
	return r ? r : make_address(s);
}

void gw__surrogate_close(struct gw__surrogate *s)
{
	free(s->block);
	free(s->names);
	s->block = NULL;
	s->names = NULL;
	gw__private_socket_remove(&s->own);
}

/* A source comes in plain, whatever it used before, unless it came by TLS to this address. */
static int set_tls(struct gw__surrogate *s, const char *creds, struct gw__error *error)
{
	return gw__qmp_call(s->qmp, "migrate-set-parameters", json_pack("{s:s}", "tls-creds", creds), NULL, error);
}

static int give_back(struct gw__surrogate *s, struct gw__error *error)
{
	gw_job *job = NULL;
	int r = gw_job_new(&job);
	if (!r)
		r = gw_source_rollback(job, s->listen, &s->opts);
	if (r)
		gw__error_set(error, r, "%s", s->stayed_away ? s->error.text : job ? gw_job_error(job) : "no memory");
	gw_job_free(job);
	return r;
}

int gw__surrogate_rollback(struct gw__qmp *q, const struct gw__qmp_settings *before, struct gw__was was, struct gw__surrogate_link where,
	struct gw__error *error)
{
	struct gw_link_opts link = GW_INIT(link);
	struct gw__surrogate s = {.qmp = q, .link = &link, .listen = where.listen};
	struct gw__qmp_settings *now = NULL;
	link.connect_timeout_ms = CONNECT_MS;
	link.tls = where.listen ? where.tls : NULL;
	int r = gw__surrogate_open(&s);
	if (!r)
		r = gw__qmp_settings_save(q, &now, &s.error);
	const char *creds = r || link.tls ? NULL : json_string_value(gw__qmp_settings_parameter(now, "tls-creds"));
	if (creds)
		r = set_tls(&s, "", &s.error);
	if (r)
		gw__error_set(error, r, "%s", s.error.text);
	if (!r && (r = give_back(&s, error)) && creds)
		set_tls(&s, creds, NULL); /* for who goes on with its save */
	if (!r)
		r = gw__watchdog_repair(q, before, was, REPAIR_MS, error);
	gw__qmp_settings_free(now);
	gw__surrogate_close(&s);
	return r;
}
