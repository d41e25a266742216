/* SPDX-License-Identifier: MIT */
/*
 * Migration settings: a snapshot, changing them, putting them back.
 *
 * A snapshot is data; it knows neither its connection nor which migration needs what. Owned by the caller.
 */
#include "qmp/parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

struct gw__qmp_settings {
	json_t *capabilities; /* {name: bool} */
	json_t *parameters;   /* {name: value}, those of `touched` that this QEMU has */
};

/* Everything a programme of ours may change. */
static const char *const touched[] = {
	"max-bandwidth",
	"max-postcopy-bandwidth",
	"downtime-limit",
	"multifd-channels",
	"multifd-compression",
	"multifd-zlib-level",
	"multifd-zstd-level",
	"tls-creds",
	"tls-hostname",
	"tls-authz",
	"direct-io",
	"zero-page-detection",
	"x-checkpoint-delay",
};

/* They change nothing of what is sent, and libvirt cannot do without the first. */
static const char *const harmless[] = {"events", "auto-converge", "late-block-activate"};

static bool is_harmless(const char *capability, bool background)
{
	for (size_t i = 0; i < (background ? 1 : GW__LEN(harmless)); i++) /* a background snapshot bears none of the others */
		if (!strcmp(capability, harmless[i]))
			return true;
	return false;
}

/* {name: bool} of query-migrate-capabilities, owned. */
static int query_capabilities(struct gw__qmp *q, json_t **known, struct gw__error *error)
{
	static const char command[] = "query-migrate-capabilities";
	json_t *said = NULL;
	int err = gw__qmp_call(q, command, NULL, &said, error);
	if (err)
		return err;
	json_t *map = json_object();
	size_t i;
	const json_t *c;
	json_array_foreach(said, i, c)
	{
		const char *name = json_string_value(json_object_get(c, "capability"));
		const json_t *state = json_object_get(c, "state");
		if (name && json_is_boolean(state))
			json_object_set_new(map, name, json_boolean(json_is_true(state)));
	}
	json_decref(said);
	if (json_object_size(map) == 0) {
		json_decref(map);
		return gw__qmp_note_anomaly(q, command, "no capabilities in it", error);
	}
	*known = map;
	return 0;
}

static bool is_scalar(const json_t *v) { return v && !json_is_array(v) && !json_is_object(v); }

static int query_parameters(struct gw__qmp *q, json_t **parameters, struct gw__error *error)
{
	static const char command[] = "query-migrate-parameters";
	json_t *said = NULL;
	int err = gw__qmp_call(q, command, NULL, &said, error);
	if (err)
		return err;
	if (!json_is_object(said)) {
		json_decref(said);
		return gw__qmp_note_anomaly(q, command, "not an object", error);
	}
	json_t *map = json_object();
	for (size_t i = 0; i < GW__LEN(touched); i++) {
		json_t *v = json_object_get(said, touched[i]);
		if (is_scalar(v))
			json_object_set(map, touched[i], v);
	}
	json_decref(said);
	*parameters = map;
	return 0;
}

void gw__qmp_settings_free(struct gw__qmp_settings *s)
{
	if (!s)
		return;
	json_decref(s->capabilities);
	json_decref(s->parameters);
	free(s);
}

int gw__qmp_settings_save(struct gw__qmp *q, struct gw__qmp_settings **s, struct gw__error *error)
{
	struct gw__qmp_settings *made = calloc(1, sizeof *made);
	if (!made)
		return gw__error_set(error, -ENOMEM, "no memory for QEMU's migration settings");
	int err = query_capabilities(q, &made->capabilities, error);
	if (!err)
		err = query_parameters(q, &made->parameters, error);
	if (err) {
		gw__qmp_settings_free(made);
		return err;
	}
	*s = made;
	return 0;
}

json_t *gw__qmp_settings_to_json(const struct gw__qmp_settings *s)
{
	return json_pack("{s:O, s:O}", "capabilities", s->capabilities, "parameters", s->parameters);
}

struct gw__qmp_settings *gw__qmp_settings_from_json(const json_t *j)
{
	json_t *capabilities = json_object_get(j, "capabilities"), *parameters = json_object_get(j, "parameters");
	struct gw__qmp_settings *s = calloc(1, sizeof *s);
	if (!s || !json_is_object(capabilities) || !json_is_object(parameters)) {
		free(s);
		return NULL;
	}
	s->capabilities = json_incref(capabilities);
	s->parameters = json_incref(parameters);
	return s;
}

bool gw__qmp_settings_has(const struct gw__qmp_settings *s, const char *capability) { return json_object_get(s->capabilities, capability); }

bool gw__qmp_settings_on(const struct gw__qmp_settings *s, const char *capability)
{
	return json_is_true(json_object_get(s->capabilities, capability));
}

const json_t *gw__qmp_settings_parameter(const struct gw__qmp_settings *s, const char *name)
{
	return json_object_get(s->parameters, name);
}

static void add_change(json_t *list, const char *capability, bool on)
{
	json_array_append_new(list, json_pack("{s:s, s:b}", "capability", capability, "state", (int)on));
}

/* Takes `list` over. QEMU checks the outcome of the whole list, so its order does not matter. */
static int send_changes(struct gw__qmp *q, json_t *list, struct gw__error *error)
{
	if (!list)
		return gw__error_set(error, -ENOMEM, "no memory for a list of capabilities");
	if (json_array_size(list) == 0) {
		json_decref(list);
		return 0;
	}
	int err = gw__qmp_call(q, "migrate-set-capabilities", json_pack("{s:o}", "capabilities", list), NULL, error);
	if (err == -EREMOTEIO && error)
		gw__qmp_hint_userfaultfd(q, error);
	return err;
}

int gw__qmp_set_capabilities(struct gw__qmp *q, const struct gw__qmp_capability *caps, unsigned n, struct gw__error *error)
{
	json_t *known = NULL;
	int err = query_capabilities(q, &known, error);
	if (err)
		return err;
	json_t *list = json_array();
	for (unsigned i = 0; i < n && !err; i++) {
		if (json_object_get(known, caps[i].name))
			add_change(list, caps[i].name, caps[i].on);
		else if (caps[i].on)
			err = gw__error_set(error, -EOPNOTSUPP, "QEMU %s at %s has no migration capability `%s`", q->version_text,
				q->address, caps[i].name);
	}
	json_decref(known);
	if (!err)
		return send_changes(q, list, error);
	json_decref(list);
	return err;
}

int gw__qmp_clear_capabilities(struct gw__qmp *q, const struct gw__qmp_settings *now, bool background, struct gw__error *error)
{
	json_t *list = json_array();
	const char *name;
	json_t *state;
	json_object_foreach(now->capabilities, name, state)
	{
		if (json_is_true(state) && !is_harmless(name, background))
			add_change(list, name, false);
	}
	return send_changes(q, list, error);
}

/* Set to `on` every capability that is `on` in `then` and not in `now`. */
static int send_differing(struct gw__qmp *q, const struct gw__qmp_settings *now, const struct gw__qmp_settings *then, bool on,
	struct gw__error *error)
{
	json_t *list = json_array();
	const char *name;
	json_t *state;
	json_object_foreach(then->capabilities, name, state)
	{
		if (json_is_true(state) == on && gw__qmp_settings_has(now, name) && gw__qmp_settings_on(now, name) != on)
			add_change(list, name, on);
	}
	return send_changes(q, list, error);
}

static int send_parameters(struct gw__qmp *q, const struct gw__qmp_settings *now, const struct gw__qmp_settings *then,
	struct gw__error *error)
{
	json_t *changes = json_object();
	const char *name;
	json_t *value;
	json_object_foreach(then->parameters, name, value)
	{
		if (!json_equal(value, json_object_get(now->parameters, name)))
			json_object_set(changes, name, value);
	}
	if (json_object_size(changes))
		return gw__qmp_call(q, "migrate-set-parameters", changes, NULL, error);
	json_decref(changes);
	return 0;
}

/*
 * Off, parameters, on. What is forbidden is forbidden together (mapped-ram with TLS, multifd with xbzrle,
 * zero-copy with compression), so a subset of a legal state is legal, and every state we pass is a subset of
 * the one we come from or of the one we go to. Off first also leads out of mapped-ram under TLS, where QEMU
 * refuses every parameter. Not before the last migration is cleaned up: 7.2 and 10.0 close their channels only while multifd is on, and
 * abort where they were left.
 */
int gw__qmp_settings_restore(struct gw__qmp *q, const struct gw__qmp_settings *s, struct gw__error *error)
{
	struct gw__qmp_settings *now = NULL;
	int err = gw__qmp_await_cleaned_up(q, error);
	if (!err)
		err = gw__qmp_settings_save(q, &now, error);
	if (err)
		return err;
	int off = send_differing(q, now, s, false, error);
	int set = send_parameters(q, now, s, error);
	int on = send_differing(q, now, s, true, error);
	gw__qmp_settings_free(now);
	return off ? off : set ? set : on;
}
