/* SPDX-License-Identifier: MIT */
/* Names of messages as people write them; see dissector.h. */
#include <ctype.h>
#include <strings.h>

#include "base/math.h"
#include "dissect/dissector_private.h"

static const char *const OWN[] = {"BLOCKS", "CONFIGURATION", "DESCRIPTION", "DEVICE", "END", "EOF", "EOS", "FOOTER", "HELLO", "INCOMPLETE",
	"MULTIFD_FLUSH", "PACKET", "PAGE", "PAGES", "PART", "START", "SYNC", "UNINTERPRETED", "XBZRLE", "ZERO"};

static const char *without_prefix(const char *name)
{
	static const char prefix[] = "POSTCOPY";
	return !strncasecmp(name, prefix, sizeof prefix - 1) && (name[8] == '_' || name[8] == '-') ? name + sizeof prefix : name;
}

static bool is_same(const char *a, const char *b)
{
	a = without_prefix(a);
	b = without_prefix(b);
	for (; *a && *b; a++, b++)
		if ((*a == '-' ? '_' : toupper((unsigned char)*a)) != (*b == '-' ? '_' : toupper((unsigned char)*b)))
			return false;
	return !*a && !*b;
}

bool gw__message_is(const struct gw__message *m, const char *name) { return is_same(m->name, name); }

bool gw__message_is_page(const char *name) { return is_same(name, "PAGE") || is_same(name, "ZERO") || is_same(name, "XBZRLE"); }

bool gw__message_exists(const char *name)
{
	for (uint16_t i = GW__CMD_OPEN_RETURN_PATH; i <= GW__CMD_SWITCHOVER_START; i++)
		if (is_same(gw__command_name(i), name))
			return true;
	for (uint16_t i = GW__RP_SHUT; i <= GW__RP_SWITCHOVER_ACK; i++)
		if (is_same(gw__rp_name(i), name))
			return true;
	for (size_t i = 0; i < GW__LEN(OWN); i++)
		if (is_same(OWN[i], name))
			return true;
	return false;
}
