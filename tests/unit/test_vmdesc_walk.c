/* SPDX-License-Identifier: MIT */
/* Walking a body with its description: every rule and trap of stream.md 8.1, what a caller is shown, and when
 * it ends. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>

#include "base/conditions.h"
#include "vmdesc_texts.h"

static uint8_t body[4096];

static int walk(const struct gw__vmdesc *d, size_t n, size_t *len, struct gw__error *error)
{
	*error = (struct gw__error){0};
	*len = SIZE_MAX;
	int r = gw__vmdesc_walk(d, 0, body, n, len, NULL, NULL, error);
	assert_int_equal(r < 0 ? r : 0, error->code);
	return r;
}

/* The walk ends after exactly `len` bytes, however many more there are, and asks for more when one is
 * missing. */
static void is_long(const char *text, size_t len)
{
	struct gw__vmdesc *d = parsed(text);
	struct gw__error error;
	size_t got;
	for (size_t n = len; n < len + 3; n++) {
		int r = walk(d, n, &got, &error);
		if (r)
			fail_msg("%d: %s", r, error.text);
		assert_int_equal(got, len);
	}
	for (size_t n = 0; n < len; n++)
		assert_int_equal(walk(d, n, &got, &error), GW__SHORT);
	gw__vmdesc_free(d);
}

static void is_refused(const char *text, size_t n, const char *sentence)
{
	struct gw__vmdesc *d = parsed(text);
	struct gw__error error;
	size_t got;
	assert_int_equal(walk(d, n, &got, &error), -EPROTO);
	if (!strstr(error.text, sentence) || !strstr(error.text, "\"dev\""))
		fail_msg("expected \"%s\" in \"%s\"", sentence, error.text);
	gw__vmdesc_free(d);
}

static size_t put_subsection(size_t at, const char *name, uint32_t version)
{
	struct gw__wr c = gw__wr_over(body + at, sizeof body - at);
	gw__wr_u8(&c, 5);
	gw__wr_str8(&c, name);
	gw__wr_be32(&c, version);
	return at + gw__wr_used(&c);
}

static void fields_follow_one_another(void **state)
{
	(void)state;
	is_long(FIELDS(""), 0);
	is_long(FIELDS(BYTES("a", "1") "," BYTES("b", "8") "," BYTES("a", "2")), 11);
	is_long(FIELDS(BYTES("a", "0")), 0);
	is_long(FIELDS(BYTES("a", "0") "," BYTES("b", "3")), 3);
}

static void a_compressed_array_is_its_size_times_its_length(void **state)
{
	(void)state;
	is_long(FIELDS("{'name':'a','array_len':5,'type':'uint32','size':4}"), 20);
	is_long(FIELDS("{'name':'a','array_len':5,'type':'uint32','size':0}"), 0);
	is_long(FIELDS("{'name':'a','array_len':0,'type':'uint32','size':4}"), 0);
	is_long(FIELDS("{'name':'a','array_len':3,'type':'struct','struct':{'vmsd_name':'s','version':1,'"
		       "fields':[" BYTES("b", "2") "]},'size':2}"),
		6);
}

static void index_never_counts(void **state)
{
	(void)state;
	is_long(FIELDS("{'name':'a','index':9,'type':'uint8','size':2},{'name':'a','index':0,'type':'uint8','"
		       "size':2},"
		       "{'name':'a','index':'x','type':'uint8','size':2}"),
		6);
}

static void unknown_types_are_bytes(void **state)
{
	(void)state;
	is_long(FIELDS("{'name':'a','type':'of a release to come','size':5}"), 5);
	is_long(FIELDS("{'name':'a','type':'gtree','vmsd_name':'e','version':1,'fields':[" BYTES("b", "99") "],'size':7}"), 7);
}

static void capabilities_say_their_own_length(void **state)
{
	(void)state;
	memcpy(body, "\x0fx-ignore-shared\x0amapped-ram", 27);
	is_long(FIELDS("{'name':'capabilities','array_len':2,'type':'capability','size':16}"), 27);
	memset(body, 0, 3);
	is_long(FIELDS("{'name':'capabilities','array_len':3,'type':'capability','size':16}"), 3);
}

/* The size of a struct contains all of it, its subsections included: the inside is not looked at for a
 * length. */
static void a_struct_is_as_long_as_it_says(void **state)
{
	(void)state;
	memset(body, 0xff, sizeof body);
	is_long(FIELDS("{'name':'a','type':'struct','struct':{'vmsd_name':'s','version':1,'fields':[" BYTES("b",
			"1") "],'subsections':[{'vmsd_name':'s/sub','version':1,'fields':[" BYTES("c", "4") "]}]},'size':16}"),
		16);
	is_long(FIELDS("{'name':'a','type':'vstruct','vmsd_name':'s','version':1,'fields':[" BYTES("b", "90") "],'size':2}"), 2);
	is_long(FIELDS("{'name':'a','type':'tmp','vmsd_name':'s','version':1,'fields':[" BYTES("b", "90") "],'size':2}"), 2);
}

#define SUB(name, version, members) "{'vmsd_name':'" name "','version':" version "," members "}"

static void subsections_of_the_device_follow_its_fields(void **state)
{
	(void)state;
	size_t at = put_subsection(2, "d/one", 3) + 4;
	at = put_subsection(at, "d/two", 1);
	is_long(DEVICE("'fields':[" BYTES("a", "2") "],'subsections':[" SUB("d/one", "3", "'fields':[" BYTES("b", "4") "]") "," SUB("d/two",
			"1", "'fields':[]") "]"),
		at);
}

static void subsections_have_subsections(void **state)
{
	(void)state;
	size_t at = put_subsection(0, "d/one", 1) + 1;
	at = put_subsection(at, "d/one/in", 2) + 3;
	at = put_subsection(at, "d/two", 1) + 1;
	is_long(DEVICE("'fields':[],'subsections':[" SUB("d/one", "1",
			"'fields':[" BYTES("b", "1") "],'subsections':[" SUB("d/one/in", "2",
				"'fields':[" BYTES("c", "3") "]") "]") "," SUB("d/two", "1", "'fields':[" BYTES("b", "1") "]") "]"),
		at);
}

static void a_subsection_must_be_the_described_one(void **state)
{
	(void)state;
	static const char text[] = DEVICE("'fields':[" BYTES("a", "2") "],'subsections':[" SUB("d/one", "3", "'fields':[]") "]");
	size_t n = put_subsection(2, "d/one", 3);
	is_long(text, n);
	body[2] = 0x7e;
	is_refused(text, n, "byte 2: expected subsection \"d/one\" (05), got byte 7e");
	is_refused(text, 3, "got byte 7e");
	put_subsection(2, "d/onf", 3);
	is_refused(text, n, "expected subsection \"d/one\", got \"d/onf\"");
	put_subsection(2, "d/on", 3);
	is_refused(text, n, "got \"d/on\"");
	put_subsection(2, "d/one", 4);
	is_refused(text, n, "subsection \"d/one\" has version 4, expected 3");
	put_subsection(2, "d/\033[e", 3);
	is_refused(text, n, "got \"?\"");
	put_subsection(2, "", 3);
	is_refused(text, n, "got \"?\"");
}

static void an_earlier_sentence_is_left_alone(void **state)
{
	(void)state;
	struct gw__vmdesc *d = parsed(DEVICE("'fields':[],'subsections':[" SUB("d/one", "3", "'fields':[]") "]"));
	struct gw__error error = {0};
	size_t len;
	gw__error_set(&error, -EIO, "earlier");
	body[0] = 0x7e;
	assert_int_equal(gw__vmdesc_walk(d, 0, body, 1, &len, NULL, NULL, &error), -EPROTO);
	assert_string_equal(error.text, "earlier");
	assert_int_equal(gw__vmdesc_walk(d, 0, body, 1, &len, NULL, NULL, NULL), -EPROTO);
	gw__vmdesc_free(d);
}

static void a_legacy_device_is_opaque(void **state)
{
	(void)state;
	is_long("{'devices':[{'name':'dev','instance_id':0,'size':9,'fields':[{'name':'data','size':9,'type':"
		"'buffer'}]}]}",
		9);
}

/* As QEMU 7.2 describes the channel subsystem of an s390x. */
static void an_array_of_null_pointers_has_an_empty_struct(void **state)
{
	(void)state;
	is_long(FIELDS("{'name':'css','array_len':256,'type':'struct','struct':{},'size':1}"), 256);
}

static void sizes_beyond_everything_ask_for_more(void **state)
{
	(void)state;
	struct gw__vmdesc *d = parsed(FIELDS("{'name':'a','array_len':4294967295,'type':'uint8','size':4294967296},"
					     "{'name':'b','array_len':4294967295,'type':'uint8','size':4294967296}"));
	struct gw__error error;
	size_t len;
	assert_int_equal(walk(d, sizeof body, &len, &error), GW__SHORT);
	gw__vmdesc_free(d);
}

/* What was shown, as lines "path type depth off bytes [x array_len]". */
static char shown[1 << 16];
static size_t shown_n, calls, enough; /* after so many calls; 0: never */

static bool note(void *ctx, const struct gw__vmdesc_field *f)
{
	assert_ptr_equal(ctx, shown);
	calls++;
	if (shown_n + strlen(f->path) + 100 > sizeof shown)
		return true;
	shown_n += (size_t)sprintf(shown + shown_n, "%s %s%s %u %llu+%llu", f->path, f->type, f->is_struct ? "{}" : "", f->depth,
		(unsigned long long)f->off, (unsigned long long)f->bytes);
	if (f->array_len != 1)
		shown_n += (size_t)sprintf(shown + shown_n, " x%llu", (unsigned long long)f->array_len);
	shown_n += (size_t)sprintf(shown + shown_n, "\n");
	return calls != enough;
}

static int show(const char *text, size_t n, struct gw__error *error)
{
	struct gw__vmdesc *d = parsed(text);
	size_t len;
	shown_n = calls = 0;
	shown[0] = 0;
	*error = (struct gw__error){0};
	int r = gw__vmdesc_walk(d, 0, body, n, &len, note, shown, error);
	gw__vmdesc_free(d);
	return r;
}

static void shows(const char *text, size_t n, const char *want)
{
	struct gw__error error;
	assert_int_equal(show(text, n, &error), 0);
	assert_int_equal(error.code, 0);
	assert_string_equal(shown, want);
}

static void fields_are_shown_with_path_and_place(void **state)
{
	(void)state;
	shows(FIELDS(BYTES("a", "2") ",{'name':'b','array_len':3,'type':'uint32','size':4}," BYTES("e", "0")), 14,
		"a uint8 0 0+2\n"
		"b uint32 0 2+12 x3\n"
		"e uint8 0 14+0\n");
	shows("{'devices':[{'name':'dev','instance_id':0,'size':9,'fields':[{'name':'data','size':9,'type':'"
	      "buffer'}]}]}",
		9, "data buffer 0 0+9\n");
}

static void parts_of_structs_are_shown(void **state)
{
	(void)state;
	shows(FIELDS(BYTES("a", "2") ",{'name':'s','type':'struct','struct':{'vmsd_name':'n','version':1,'"
				     "fields':[" BYTES("b", "1") ",{'name':'v','type':'vstruct','vmsd_name':'"
								 "n','version':1,'fields':[" BYTES("c", "3") "],'size':3}]},'size':4}"),
		6,
		"a uint8 0 0+2\n"
		"s struct{} 0 2+4\n"
		"s.b uint8 1 2+1\n"
		"s.v vstruct{} 1 3+3\n"
		"s.v.c uint8 2 3+3\n");
}

static void arrays_of_structs_are_shown_by_element(void **state)
{
	(void)state;
	shows(FIELDS("{'name':'s','array_len':2,'type':'struct','struct':{'vmsd_name':'n','version':1,'"
		     "fields':[" BYTES("b", "1") "," BYTES("c", "2") "]},'size':3}"),
		6,
		"s[0] struct{} 0 0+3\n"
		"s[0].b uint8 1 0+1\n"
		"s[0].c uint8 1 1+2\n"
		"s[1] struct{} 0 3+3\n"
		"s[1].b uint8 1 3+1\n"
		"s[1].c uint8 1 4+2\n");
}

/* 7.2 says "index" on every element, 10.0 on all but the last, 11.1 never: all are shown alike. */
static void elements_are_numbered_alike_for_all_releases(void **state)
{
	(void)state;
	static const char want[] = "x uint8 0 0+1\na[0] uint8 0 1+2\na[1] uint8 0 3+2\na[2] uint8 0 5+2\ny uint8 0 7+1\n";
#define ELEMENT(index) "{'name':'a'" index ",'type':'uint8','size':2}"
	shows(FIELDS(BYTES("x", "1") "," ELEMENT(",'index':0") "," ELEMENT(",'index':1") "," ELEMENT(",'index':2") "," BYTES("y", "1")), 8,
		want);
	shows(FIELDS(BYTES("x", "1") "," ELEMENT(",'index':0") "," ELEMENT(",'index':1") "," ELEMENT("") "," BYTES("y", "1")), 8, want);
	shows(FIELDS(BYTES("x", "1") "," ELEMENT("") "," ELEMENT("") "," ELEMENT("") "," BYTES("y", "1")), 8, want);
}

/* 10.0 splits an array of pointers into segments of NULL and other elements. */
static void segments_of_an_array_go_on_counting(void **state)
{
	(void)state;
	shows(FIELDS("{'name':'p','array_len':3,'type':'nullptr','size':1},"
		     "{'name':'p','array_len':2,'type':'struct','struct':{'vmsd_name':'n','version':1,'"
		     "fields':[]},'size':2},"
		     "{'name':'p','type':'nullptr','size':1}"),
		8,
		"p[0] nullptr 0 0+3 x3\n"
		"p[3] struct{} 0 3+2\n"
		"p[4] struct{} 0 5+2\n"
		"p[5] nullptr 0 7+1\n");
}

static void subsections_are_shown(void **state)
{
	(void)state;
	size_t one = put_subsection(2, "d/one", 1), in = put_subsection(one + 1, "i", 1);
	size_t two = put_subsection(in + 3, "d/two", 1);
	char want[512];
	snprintf(want, sizeof want,
		"a uint8 0 0+2\n"
		"d/one subsection{} 0 2+%zu\n"
		"d/one.b uint8 1 %zu+1\n"
		"d/one.i subsection{} 1 %zu+%zu\n"
		"d/one.i.c uint8 2 %zu+3\n"
		"d/two subsection{} 0 %zu+%zu\n"
		"d/two.b uint8 1 %zu+1\n",
		in + 3 - 2, one, one + 1, in + 3 - (one + 1), in, in + 3, two + 1 - (in + 3), two);
	shows(DEVICE("'fields':[" BYTES("a", "2") "],'subsections':[" SUB("d/one", "1",
		      "'fields':[" BYTES("b", "1") "],'subsections':[" SUB("i", "1", "'fields':[" BYTES("c", "3") "]") "]") "," SUB("d/two",
		      "1", "'fields':[" BYTES("b", "1") "]") "]"),
		two + 1, want);
}

/* A struct's size is true, its parts may be those of another element: what does not fit is left out, not an
 * error. */
static void parts_that_do_not_fit_are_left_out(void **state)
{
	(void)state;
	memset(body, 0xff, sizeof body);
	shows(FIELDS("{'name':'s','type':'struct','struct':{'vmsd_name':'n','version':1,'fields':[" BYTES("b", "1") "," BYTES("c",
		      "9") "," BYTES("e", "1") "]},'size':3}," BYTES("z", "1")),
		4,
		"s struct{} 0 0+3\n"
		"s.b uint8 1 0+1\n"
		"z uint8 0 3+1\n");
	shows(FIELDS("{'name':'s','type':'struct','struct':{'vmsd_name':'n','version':1,'fields':[],'"
		     "subsections':[" SUB("m", "1", "'fields':[]") "]},'size':9}," BYTES("z", "1")),
		10,
		"s struct{} 0 0+9\n"
		"z uint8 0 9+1\n");
}

/* The bytes of an element end where it says, although the body goes on with what would fit. */
static void a_struct_never_reads_past_its_end(void **state)
{
	(void)state;
	size_t n = put_subsection(0, "m", 1);
	static const char text[] = FIELDS("{'name':'s','type':'struct','struct':{'vmsd_name':'n','version':1,'fields':[],'"
					  "subsections':[" SUB("m", "1", "'fields':[]") "]},'size':6}," BYTES("z", "1"));
	shows(text, n, "s struct{} 0 0+6\nz uint8 0 6+1\n");
	memset(body, 3, 16);
	shows(FIELDS("{'name':'s','type':'struct','struct':{'vmsd_name':'n','version':1,'fields':["
		     "{'name':'c','array_len':2,'type':'capability','size':4}]},'size':7}," BYTES("z", "1")),
		8, "s struct{} 0 0+7\nz uint8 0 7+1\n");
	/* A capability is a str8, whatever else it claims to be. */
	shows(FIELDS("{'name':'c','array_len':1,'type':'capability','struct':{'vmsd_name':'n','version':1,'"
		     "fields':[" BYTES("b", "2") "]},'size':2}"),
		2, "c capability{} 0 0+2\nc.b uint8 1 0+2\n");
}

static void nothing_is_shown_of_a_body_that_is_not_whole(void **state)
{
	(void)state;
	struct gw__error error;
	assert_int_equal(show(FIELDS(BYTES("a", "2") "," BYTES("b", "2")), 3, &error), GW__SHORT);
	assert_int_equal(calls, 0);
}

static void endless_arrays_of_nothing_end_at_once(void **state)
{
	(void)state;
#define EMPTY "'array_len':1152921504606846976,'type':'uint8','size':0}"
	shows(FIELDS("{'name':'a'," EMPTY ",{'name':'b'," EMPTY), 0,
		"a uint8 0 0+0 x1152921504606846976\nb uint8 0 0+0 x1152921504606846976\n");
	shows(FIELDS("{'name':'s','array_len':1152921504606846976,'type':'struct','struct':{'vmsd_name':'n','"
		     "version':1,'fields':["
		     "{'name':'a'," EMPTY "]},'size':0}"),
		0, "s[0] struct{} 0 0+0 x1152921504606846976\ns[0].a uint8 1 0+0 x1152921504606846976\n");
	memset(body, 0, sizeof body);
	struct gw__vmdesc *d = parsed(FIELDS("{'name':'c','array_len':1152921504606846976,'type':'capability','size':0}"));
	struct gw__error error;
	size_t len;
	assert_int_equal(walk(d, sizeof body, &len, &error), GW__SHORT);
	gw__vmdesc_free(d);
}

static void who_is_shown_enough_is_shown_no_more(void **state)
{
	(void)state;
	struct gw__error error;
	static const char text[] = FIELDS("{'name':'s','array_len':2,'type':'struct','struct':{'vmsd_name':'n','version':1,'"
					  "fields':[" BYTES("b", "1") "," BYTES("c", "2") "]},'size':3}");
	for (enough = 1; enough <= 6; enough++) {
		assert_int_equal(show(text, 6, &error), GW__STOPPED);
		assert_int_equal(calls, enough);
	}
	enough = 0;
	assert_int_equal(show(text, 6, &error), 0);
	assert_int_equal(calls, 6);
}

/* 4096 elements with 1000 empty parts each: a short text that asks for four million lines. */
static void repetition_has_a_budget(void **state)
{
	(void)state;
	static char text[1 << 16];
	struct gw__error error;
	strcpy(text, "{'devices':[{'name':'dev','instance_id':0,'vmsd_name':'d','version':7,'fields':[{'name'"
		     ":'s','array_len':4096,"
		     "'type':'struct','size':1,'struct':{'vmsd_name':'n','version':1,'fields':[");
	for (unsigned i = 0; i < 1000; i++)
		strcat(text, BYTES("e", "0") ",");
	strcat(text, BYTES("b", "1") "]}}]}]}");
	assert_int_equal(show(text, sizeof body, &error), -EPROTO);
	assert_non_null(strstr(error.text, "\"dev\""));
	assert_non_null(strstr(error.text, "repeats too much"));
	assert_true(calls < 16 * (4096 + 1100));
	struct gw__vmdesc *d = parsed(text);
	size_t len;
	assert_int_equal(walk(d, sizeof body, &len, &error), 0); /* the length alone costs nothing */
	assert_int_equal(len, 4096);
	gw__vmdesc_free(d);
}

static void the_longest_path_fits(void **state)
{
	(void)state;
	static char text[1 << 16], name[256];
	struct gw__error error;
	memset(name, 'n', 255);
	strcpy(text, "{'devices':[{'name':'dev','instance_id':0,'vmsd_name':'d','version':7,'fields':[");
	for (unsigned i = 0; i < 31; i++)
		sprintf(text + strlen(text),
			"{'name':'%s','type':'struct','size':1,'array_len':9,'struct':{'vmsd_name':'n','"
			"version':1,"
			"'fields':[",
			name);
	sprintf(text + strlen(text), BYTES("%s", "1") "," BYTES("%s", "0"), name, name);
	for (unsigned i = 0; i < 31; i++)
		strcat(text, "]}}");
	strcat(text, "]}]}");
	assert_int_equal(show(text, 9, &error), 0);
	assert_non_null(strstr(shown, "[8]"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_follow_one_another),
		cmocka_unit_test(a_compressed_array_is_its_size_times_its_length),
		cmocka_unit_test(index_never_counts),
		cmocka_unit_test(unknown_types_are_bytes),
		cmocka_unit_test(capabilities_say_their_own_length),
		cmocka_unit_test(a_struct_is_as_long_as_it_says),
		cmocka_unit_test(subsections_of_the_device_follow_its_fields),
		cmocka_unit_test(subsections_have_subsections),
		cmocka_unit_test(a_subsection_must_be_the_described_one),
		cmocka_unit_test(an_earlier_sentence_is_left_alone),
		cmocka_unit_test(a_legacy_device_is_opaque),
		cmocka_unit_test(an_array_of_null_pointers_has_an_empty_struct),
		cmocka_unit_test(sizes_beyond_everything_ask_for_more),
		cmocka_unit_test(fields_are_shown_with_path_and_place),
		cmocka_unit_test(parts_of_structs_are_shown),
		cmocka_unit_test(arrays_of_structs_are_shown_by_element),
		cmocka_unit_test(elements_are_numbered_alike_for_all_releases),
		cmocka_unit_test(segments_of_an_array_go_on_counting),
		cmocka_unit_test(subsections_are_shown),
		cmocka_unit_test(parts_that_do_not_fit_are_left_out),
		cmocka_unit_test(a_struct_never_reads_past_its_end),
		cmocka_unit_test(nothing_is_shown_of_a_body_that_is_not_whole),
		cmocka_unit_test(endless_arrays_of_nothing_end_at_once),
		cmocka_unit_test(who_is_shown_enough_is_shown_no_more),
		cmocka_unit_test(repetition_has_a_budget),
		cmocka_unit_test(the_longest_path_fits),
	};
	return cmocka_run_group_tests_name("vmdesc_walk", tests, NULL, NULL);
}
