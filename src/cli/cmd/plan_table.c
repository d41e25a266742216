/* SPDX-License-Identifier: MIT */
/* Prints the table of abilities, or asks it; see plan_table.h. */
#include "cli/cmd/plan_table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/ui/check_caps.h"
#include "cli/ui/command_ctx.h"

enum { LIST_BYTES = 512 };

struct list { /* words in a line */
	char text[LIST_BYTES];
};

static void append(struct list *l, const char *between, const char *word)
{
	size_t n = strlen(l->text);
	snprintf(l->text + n, sizeof l->text - n, "%s%s", n ? between : "", word);
}

static struct list words_of(uint64_t abilities, const char *between)
{
	struct list l = {""};
	const char *name;
	for (uint32_t i = 0; (name = gw_plan_ability(i)); i++)
		if (abilities >> i & 1)
			append(&l, between, name);
	return l;
}

static json_t *json_of(uint64_t abilities)
{
	json_t *v = json_array();
	const char *name;
	for (uint32_t i = 0; (name = gw_plan_ability(i)); i++)
		if (abilities >> i & 1)
			json_array_append_new(v, json_string(name));
	return v;
}

static const char *version_text(unsigned version, char text[16])
{
	snprintf(text, 16, "%u.%u", version / 100, version % 100);
	return version ? text : NULL;
}

static struct list releases_of(const struct gw_rule *r)
{
	struct list l;
	char first[16], last[16];
	version_text(r->first, first);
	version_text(r->last, last);
	if (r->first && r->first == r->last)
		snprintf(l.text, sizeof l.text, "QEMU %s only", first);
	else if (r->first)
		snprintf(l.text, sizeof l.text, "QEMU %s and later", first);
	else if (r->last)
		snprintf(l.text, sizeof l.text, "QEMU %s and earlier", last);
	else
		snprintf(l.text, sizeof l.text, "any QEMU");
	return l;
}

static const char *found_text(const char *found)
{
	static const char *const texts[][2] = {
		{"godwit", "godwit cannot do it"},
		{"capabilities", "QEMU refuses the capabilities"},
		{"start", "QEMU refuses to start"},
		{"late", "QEMU starts and fails"},
		{"never", "QEMU does not notice, and the result cannot be used"},
		{"crash", "QEMU crashes"},
	};
	for (unsigned i = 0; i < GW__LEN(texts); i++)
		if (!strcmp(texts[i][0], found))
			return texts[i][1];
	return found;
}

/* Does anything refuse these in that operation, this row or another? */
static bool is_refused(uint32_t op, uint64_t abilities, unsigned qemu)
{
	struct gw__requested_caps w = {0};
	const char *name;
	for (uint32_t i = 0; (name = gw_plan_ability(i)); i++)
		if (abilities >> i & 1)
			gw__requested_caps_add(&w, name);
	return gw_plan_combination((enum gw_operation)op, w.name, qemu, NULL) != 0;
}

/* With whatever choice of `any`. */
static bool is_never_refused(uint32_t op, const struct gw_rule *r)
{
	unsigned qemu = r->first ? r->first : r->last;
	for (uint64_t any = r->any ? r->any : 1; any; any &= any - 1)
		if (is_refused(op, r->with | (r->any ? any & -any : 0), qemu))
			return false;
	return true;
}

struct verdicts {
	struct list refused, works, other; /* operations; other: another row says something of it */
	json_t *json;
};

static void judge(const struct gw_rule *r, struct verdicts *v)
{
	const char *name;
	*v = (struct verdicts){.json = json_object()};
	for (uint32_t op = 0; (name = gw_plan_operation(op)); op++) {
		bool refused = r->operations >> op & 1, works = !refused && is_never_refused(op, r);
		append(refused ? &v->refused : works ? &v->works : &v->other, ", ", name);
		json_object_set_new(v->json, name, json_string(refused ? "refused" : works ? "works" : "other"));
	}
}

static void print_json(const struct gw_rule *r)
{
	char first[16], last[16];
	struct verdicts v;
	judge(r, &v);
	gw__cli_json(json_pack("{ss so so so so ss? ss? ss ss}", "event", "rule", "with", json_of(r->with), "any", json_of(r->any),
		"unless", json_of(r->unless), "operations", v.json, "first", version_text(r->first, first), "last",
		version_text(r->last, last), "found", r->found, "why", r->reason));
}

static void print_text(const struct gw_rule *r)
{
	struct verdicts v;
	judge(r, &v);
	gw__ui_print("%s", words_of(r->with, " + ").text);
	if (r->any)
		gw__ui_print("%s%s%s", r->with ? " with " : "", (r->any & (r->any - 1)) ? "one of " : "", words_of(r->any, ", ").text);
	if (r->unless)
		gw__ui_print(" without %s", words_of(r->unless, ", ").text);
	gw__ui_print("\n  refused:  %s\n", v.refused.text);
	gw__ui_print("  because:  %s\n  else:     %s (%s)\n", r->reason, found_text(r->found), releases_of(r).text);
	if (*v.works.text)
		gw__ui_print("  works:    %s\n", v.works.text);
	if (*v.other.text)
		gw__ui_print("  other:    %s\n", v.other.text);
	gw__ui_print("\n");
	json_decref(v.json);
}

int gw__cli_plan_table(const struct gw__cli_common *c)
{
	struct gw_rule r = GW_INIT(r);
	for (uint32_t i = 0; gw_plan_rule(i, &r) == 0; i++)
		if (c->json)
			print_json(&r);
		else
			print_text(&r);
	if (c->json)
		gw__cli_json(json_pack("{ss so}", "event", "abilities", "names", json_of(UINT64_MAX)));
	else
		gw__ui_print("All other combinations work. The capabilities: %s\n", words_of(UINT64_MAX, ", ").text);
	return GW__EXIT_DONE;
}

static int find_operation(const char *name)
{
	const char *known;
	for (uint32_t i = 0; (known = gw_plan_operation(i)); i++)
		if (!strcmp(known, name))
			return (int)i;
	return -1;
}

static int parse_version(const char *text)
{
	unsigned major, minor;
	char rest;
	return sscanf(text, "%3u.%2u%c", &major, &minor, &rest) == 2 && major ? (int)(100 * major + minor) : -1;
}

/* Cuts `text` at its commas. */
static int split(char *text, struct gw__requested_caps *w)
{
	char *rest;
	for (char *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		if (w->n + 1 == GW__LEN(w->name))
			return gw__ui_error(GW__EXIT_USAGE, "plan: --with: too many capabilities");
		gw__requested_caps_add(w, word);
	}
	return GW__CLI_GO;
}

static int misuse_ability(const struct gw__requested_caps *w, int op)
{
	for (unsigned i = 0; i < w->n; i++) {
		const char *one[] = {w->name[i], NULL};
		if (gw_plan_combination((enum gw_operation)op, one, 0, NULL) == -EINVAL)
			return gw__ui_error(GW__EXIT_USAGE, "plan: --with: no capability \"%s\" (godwit plan --table lists them)",
				w->name[i]);
	}
	return GW__EXIT_USAGE;
}

int gw__cli_plan_question(const struct gw__cli_common *c, const char *operation, const char *abilities, const char *qemu)
{
	char text[1024];
	struct gw__requested_caps w = {0};
	struct gw_rule r = GW_INIT(r);
	int op = find_operation(operation), version = qemu ? parse_version(qemu) : 0;
	if (op < 0)
		return gw__ui_error(GW__EXIT_USAGE, "plan: --for: no operation \"%s\" (godwit plan --table lists them)", operation);
	if (version < 0)
		return gw__ui_error(GW__EXIT_USAGE, "plan: --qemu: \"%s\" is not a release such as 10.0", qemu);
	snprintf(text, sizeof text, "%s", abilities);
	int status = split(text, &w);
	if (status != GW__CLI_GO)
		return status;
	int e = gw_plan_combination((enum gw_operation)op, w.name, (unsigned)version, &r);
	if (e == -EINVAL)
		return misuse_ability(&w, op);
	if (c->json)
		gw__cli_json(json_pack("{ss sb ss? ss?}", "event", "combination", "works", !e, "found", e ? r.found : NULL, "why",
			e ? r.reason : NULL));
	else if (e)
		gw__ui_print("refused: %s\n", r.reason);
	else
		gw__ui_print("works: no rule refuses it\n");
	return e ? GW__EXIT_REFUSED : GW__EXIT_DONE;
}
