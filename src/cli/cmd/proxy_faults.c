/* SPDX-License-Identifier: MIT */
/* Cuts and rates of `godwit proxy` as they are written; see proxy.h. Whether a channel or message exists, the library says. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ui/output.h"
#include "cli/cmd/proxy.h"

enum { WORDS_MAX = 5 };

static int bad(const char *option, const char *value, const char *form)
{
	gw__ui_error(0, "--%s: \"%s\" is not of the form %s; DIRECTION is forward or return", option, value, form);
	return -EINVAL;
}

static unsigned split(char *text, char *word[WORDS_MAX])
{
	unsigned n = 0;
	for (char *at = text; at && n < WORDS_MAX; n++) {
		word[n] = at;
		at = strchr(at, ':');
		if (at)
			*at++ = 0;
	}
	return n;
}

static bool to_direction(const char *word, enum gw_proxy_direction *d)
{
	*d = !strcmp(word, "forward") ? GW_PROXY_FORWARD : !strcmp(word, "return") ? GW_PROXY_RETURN : GW_PROXY_NEITHER;
	return *d != GW_PROXY_NEITHER;
}

static bool is_number(const char *word) { return *word && strspn(word, "0123456789") == strlen(word); }

/* The place of a fault is the first `n` words: a channel, a direction, both or nothing. */
static bool take_place(struct gw_proxy_fault *f, char *word[], unsigned n)
{
	if (n && to_direction(word[n - 1], &f->direction))
		n--;
	if (n == 1 && *word[0]) {
		f->channel = word[0];
		return true;
	}
	return n == 0;
}

static bool take_amount(struct gw_proxy_fault *f, char *word[], unsigned n)
{
	return n >= 1 && take_place(f, word, n - 1) && gw__cli_parse_size(word[n - 1], &f->amount) == 0;
}

static bool take_message(struct gw_proxy_fault *f, char *word[], unsigned n)
{
	f->amount = 1;
	if (n >= 2 && is_number(word[n - 1]) && gw__cli_parse_size(word[--n], &f->amount))
		return false;
	if (n < 1 || !*word[n - 1])
		return false;
	f->message = word[n - 1];
	return take_place(f, word, n - 1);
}

static int add(struct gw__cli_faults *f, const char *option, enum gw_proxy_fault_kind kind, const char *value)
{
	char *word[WORDS_MAX];
	bool message = kind == GW_PROXY_CUT_AT;
	if (f->n == GW__CLI_LIST_MAX) {
		gw__ui_error(0, "--%s: there are too many cuts and rates, at most %d can be", option, GW__CLI_LIST_MAX);
		return -EINVAL;
	}
	char *words = strdup(value);
	if (!words) {
		gw__ui_error(0, "no memory");
		return -EINVAL;
	}
	f->words[f->n] = words;
	struct gw_proxy_fault *fault = &f->v[f->n++];
	*fault = (struct gw_proxy_fault){.size = sizeof *fault, .kind = kind};
	unsigned n = split(words, word);
	if (message ? take_message(fault, word, n) : take_amount(fault, word, n))
		return 0;
	return bad(option, value, message ? "[CHANNEL:][DIRECTION:]MESSAGE[:N]" : "[CHANNEL:][DIRECTION:]BYTES");
}

int gw__cli_faults_add(struct gw__cli_faults *f, const char *option, enum gw_proxy_fault_kind kind, const struct gw__cli_list *list)
{
	int r = 0;
	for (unsigned i = 0; !r && i < list->n; i++)
		r = add(f, option, kind, list->v[i]);
	return r;
}

void gw__cli_faults_free(struct gw__cli_faults *f)
{
	for (unsigned i = 0; i < f->n; i++)
		free(f->words[i]);
	f->n = 0;
}
