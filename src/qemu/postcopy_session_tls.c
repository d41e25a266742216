/* SPDX-License-Identifier: MIT */
/* TLS between a page server and its QEMU, as far as the monitor has to do with it: QEMU's side of it. See postcopy_session.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "qemu/postcopy_session.h"

static bool is_for_servers(struct gw__postcopy_session *l, const char *name)
{
	char path[300];
	json_t *said = NULL;
	snprintf(path, sizeof path, "/objects/%s", name);
	gw__qmp_call(l->qmp, "qom-get", json_pack("{s:s, s:s}", "path", path, "property", "endpoint"), &said, NULL);
	const char *endpoint = json_string_value(said);
	bool is = endpoint && !strcmp(endpoint, "server");
	json_decref(said);
	return is;
}

/* The one object with credentials for a server that this QEMU was started with. */
static int find_credentials(struct gw__postcopy_session *l, char name[256])
{
	json_t *said = NULL, *row;
	unsigned n = 0;
	size_t i;
	int r = gw__qmp_call(l->qmp, "qom-list", json_pack("{s:s}", "path", "/objects"), &said, &l->error);
	json_array_foreach(said, i, row)
	{
		const char *type = json_string_value(json_object_get(row, "type")), *id = json_string_value(json_object_get(row, "name"));
		if (!type || !id || strncmp(type, "child<tls-creds-", 16) || strlen(id) > 255 || !is_for_servers(l, id))
			continue;
		n++;
		snprintf(name, 256, "%s", id);
	}
	json_decref(said);
	if (r || n == 1)
		return r;
	if (n)
		return gw__error_set(&l->error, -EINVAL,
			"this QEMU has %u credentials for a server; choose one with migrate-set-parameters tls-creds", n);
	return gw__error_set(&l->error, -EINVAL,
		"this QEMU has no credentials for a server; start it with -object tls-creds-x509,id=tls0,dir=DIR,endpoint=server");
}

int gw__postcopy_session_set_tls(struct gw__postcopy_session *l)
{
	char name[256] = "";
	const json_t *now = gw__qmp_settings_parameter(l->before, "tls-creds");
	const char *set = json_string_value(now);
	int r = 0;
	if (l->tls_opts.creds_dir && set && set[0]) /* its user has decided */
		return 0;
	if (l->tls_opts.creds_dir)
		r = find_credentials(l, name);
	if (r || (!now && !name[0]))
		return r;
	return gw__qmp_call(l->qmp, "migrate-set-parameters", json_pack("{s:s}", "tls-creds", name), NULL, &l->error);
}

/* A destination that speaks TLS and one that does not must not be mixed up: some QEMUs lose a guest by it. */
int gw__postcopy_session_check_tls(struct gw__postcopy_session *l)
{
	json_t *said = NULL;
	if (!l->tls_known && !gw__qmp_unanswered(l->qmp)) {
		gw__qmp_set_call_limit(l->qmp, GW__POSTCOPY_SESSION_HELD_UP_MS);
		gw__qmp_call(l->qmp, "query-migrate-parameters", NULL, &said, NULL);
		gw__qmp_set_call_limit(l->qmp, GW__QMP_CALL_MS);
		const char *creds = json_string_value(json_object_get(said, "tls-creds"));
		l->tls_known = said;
		l->tls = creds && creds[0];
		json_decref(said);
	}
	if (!l->tls_known || l->tls == !!l->tls_opts.creds_dir)
		return 0;
	l->refused = true;
	gw__error_advise(&l->driver->error, l->tls ? GW_QEMU_HINT_TLS : GW_QEMU_HINT_NO_TLS);
	return gw__error_set(&l->error, -EINVAL, "this QEMU %s TLS with its page server", l->tls ? "speaks" : "does not speak");
}
