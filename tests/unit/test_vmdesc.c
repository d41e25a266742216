/* SPDX-License-Identifier: MIT */
/* Reading a VM description: the forms of stream.md 8.1, each rule broken once, hostile texts, memory that
 * runs out. */
#include "unit.h"

#include <errno.h>
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmdesc_texts.h"

/* Everything the parser allocates comes through here: jansson by its hooks, our own code by the linker's
 * --wrap. */
static struct {
	size_t now, peak;   /* bytes */
	long until_failure; /* allocations that succeed before one fails; -1: no failure */
	bool failed;
} memory = {.until_failure = -1};

void *__real_malloc(size_t n);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t each);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static bool may_allocate(void)
{
	if (memory.until_failure < 0)
		return true;
	memory.failed |= memory.until_failure == 0;
	return memory.until_failure-- > 0;
}

static void *count(void *p)
{
	memory.now += malloc_usable_size(p);
	memory.peak = memory.now > memory.peak ? memory.now : memory.peak;
	return p;
}

static void *count_malloc(size_t n) { return count(__real_malloc(n)); }

void *__wrap_malloc(size_t n) { return may_allocate() ? count(__real_malloc(n)) : NULL; }

void *__wrap_calloc(size_t n, size_t each)
{
	void *p = __wrap_malloc(n * each);
	return p ? memset(p, 0, n * each) : NULL;
}

void *__wrap_realloc(void *p, size_t n)
{
	if (!may_allocate())
		return NULL;
	memory.now -= malloc_usable_size(p);
	return count(__real_realloc(p, n));
}

void __wrap_free(void *p)
{
	memory.now -= malloc_usable_size(p);
	__real_free(p);
}

static void accepted(const char *text) { gw__vmdesc_free(parsed(text)); }

static void refused(const char *text, const char *sentence)
{
	struct gw__vmdesc *d = NULL;
	struct gw__error error;
	size_t before = memory.now;
	assert_int_equal(parse(text, &d, &error), -EPROTO);
	assert_null(d);
	assert_int_equal(memory.now, before);
	if (!strstr(error.text, sentence))
		fail_msg("expected \"%s\" in \"%s\"", sentence, error.text);
}

static const char SPEC_FORM[] = "{'configuration': {'vmsd_name': 'configuration', 'version': 1, 'fields': []}, 'page_size': 4096, "
				"'devices': ["
				"{'name': 'timer', 'instance_id': 0, 'vmsd_name': 'timer', 'version': 2, 'fields': [" BYTES("a",
					"8") "]}, "
					     "{'name': 'apic', 'instance_id': 4294967295, 'vmsd_name': 'apic', 'version': "
					     "4294967295, 'fields': []}, "
					     "{'name': 'slirp', 'instance_id': 0, 'size': 9, 'fields': [{'name': 'data', "
					     "'size': 9, 'type': 'buffer'}]}]}";

#define DEVICE_X "{'name':'x','instance_id':0,'vmsd_name':'x','version':1,'fields':[]}"

static void devices_are_listed(void **state)
{
	(void)state;
	struct gw__vmdesc *d = parsed(SPEC_FORM);
	assert_int_equal(gw__vmdesc_page_bytes(d), 4096);
	assert_int_equal(gw__vmdesc_count(d), 3);
	struct gw__vmdesc_device timer = gw__vmdesc_device(d, 0), apic = gw__vmdesc_device(d, 1);
	struct gw__vmdesc_device slirp = gw__vmdesc_device(d, 2);
	assert_string_equal(timer.name, "timer");
	assert_string_equal(timer.vmsd_name, "timer");
	assert_true(timer.has_version);
	assert_int_equal(timer.version, 2);
	assert_int_equal(apic.instance, UINT32_MAX);
	assert_int_equal(apic.version, UINT32_MAX);
	assert_string_equal(slirp.name, "slirp");
	assert_null(slirp.vmsd_name);
	assert_false(slirp.has_version);
	gw__vmdesc_free(d);
	gw__vmdesc_free(NULL);
}

static void a_description_may_leave_the_page_size_out(void **state)
{
	(void)state;
	struct gw__vmdesc *d = parsed("{'devices':[]}");
	assert_int_equal(gw__vmdesc_page_bytes(d), 0);
	assert_int_equal(gw__vmdesc_count(d), 0);
	gw__vmdesc_free(d);
}

static void a_page_size_is_a_power_of_two_in_range(void **state)
{
	(void)state;
	accepted("{'devices':[],'page_size':256}");
	accepted("{'devices':[],'page_size':1048576}");
	refused("{'devices':[],'page_size':0}", "\"page_size\" is 0");
	refused("{'devices':[],'page_size':128}", "\"page_size\" is 128");
	refused("{'devices':[],'page_size':4097}", "\"page_size\" is 4097");
	refused("{'devices':[],'page_size':2097152}", "\"page_size\"");
	refused("{'devices':[],'page_size':'4096'}", "\"page_size\"");
}

static void any_part_of_a_description_is_refused(void **state)
{
	(void)state;
	char text[sizeof SPEC_FORM];
	for (size_t n = 0; n + 1 < sizeof SPEC_FORM; n++) {
		memcpy(text, SPEC_FORM, n);
		text[n] = 0;
		refused(text, "not JSON at byte");
	}
	refused("{'devices':[]} x", "not JSON at byte");
	refused("[]", "\"devices\" is missing");
	refused("{'a': \033[2J}", "near '?'");
	refused("{}", "\"devices\" is missing");
	refused("{'devices':{}}", "\"devices\" is missing or not an array");
	refused("{'devices':[{'name':'a','instance_id':0,'vmsd_name':'a','version':1,'fields':[]},7]}",
		"\"devices\" has an element 1 that is not an object");
}

static void every_member_is_needed(void **state)
{
	(void)state;
	refused("{'devices':[{'instance_id':0,'vmsd_name':'a','version':1,'fields':[]}]}", "device 0: \"name\"");
	refused("{'devices':[{'name':'a','vmsd_name':'a','version':1,'fields':[]}]}", "\"a\": \"instance_id\"");
	refused("{'devices':[{'name':'a','instance_id':0,'vmsd_name':'a','fields':[]}]}", "\"version\"");
	refused("{'devices':[{'name':'a','instance_id':0,'vmsd_name':'a','version':1}]}", "\"fields\" is missing");
	refused(FIELDS("{'type':'uint8','size':1}"), "field 0: \"name\"");
	refused(FIELDS(BYTES("a", "1") ",{'name':'x','size':1}"), "field 1: \"type\"");
	refused(FIELDS("{'name':'x','type':'uint8'}"), "field 0: \"size\"");
	refused(FIELDS("{'name':'x','type':'struct','size':1,'struct':{}}"), "field 0: \"vmsd_name\"");
	refused(FIELDS("{'name':'x','type':'struct','size':1,'struct':7}"), "field 0: \"vmsd_name\"");
	refused(FIELDS("{'name':'x','type':'tmp','size':1,'fields':[]}"), "field 0: \"vmsd_name\"");
	refused(FIELDS("[]"), "\"fields\" has an element 0 that is not an object");
	refused(DEVICE("'fields':[],'subsections':7"), "\"subsections\" is missing or not an array");
	refused(DEVICE("'fields':[],'subsections':[{'vmsd_name':'s','version':1}]"), "subsection 0: \"fields\"");
}

static void a_failure_deep_inside_says_where(void **state)
{
	(void)state;
	refused(FIELDS(BYTES("a", "1") ",{'name':'x','type':'struct','size':1,'struct':{'vmsd_name':'i','version':1,"
				       "'fields':[],'subsections':[{'vmsd_name':'s','version':1,'fields':[{}]}]}}"),
		"VM description: device 0: \"dev\": field 1: subsection 0: field 0: \"name\" is missing");
}

/* `value` as the size of a field, and a few others. */
static void number(const char *key, const char *value, bool good)
{
	char text[512], sentence[32];
	const char *size = strcmp(key, "size") ? "'size':1," : "";
	snprintf(text, sizeof text, FIELDS("{'name':'x','type':'uint8',%s'%s':%s}"), size, key, value);
	snprintf(sentence, sizeof sentence, "\"%s\"", key);
	if (good)
		accepted(text);
	else
		refused(text, sentence);
}

static void numbers_are_integers_in_range(void **state)
{
	(void)state;
	number("size", "0", true);
	number("size", "4294967296", true);
	number("size", "4294967297", false);
	number("size", "-1", false);
	number("size", "1.0", false);
	number("size", "1e3", false);
	number("size", "true", false);
	number("size", "null", false);
	number("size", "'1'", false);
	number("array_len", "0", true);
	number("array_len", "9223372036854775807", true);
	number("array_len", "-1", false);
	number("array_len", "2.5", false);
	refused(FIELDS(BYTES("x", "9223372036854775808")), "not JSON");
	refused("{'devices':[{'name':'a','instance_id':4294967296,'vmsd_name':'a','version':1,'fields':[]}]}", "\"instance_id\"");
	refused("{'devices':[{'name':'a','instance_id':-1,'vmsd_name':'a','version':1,'fields':[]}]}", "\"instance_id\"");
	refused("{'devices':[{'name':'a','instance_id':0,'vmsd_name':'a','version':4294967296,'fields':[]}]}", "\"version\"");
}

static void a_product_that_does_not_fit_is_refused(void **state)
{
	(void)state;
	accepted(FIELDS("{'name':'x','type':'uint8','size':4294967296,'array_len':4294967295}"));
	refused(FIELDS("{'name':'x','type':'uint8','size':4294967296,'array_len':4294967296}"), "4294967296 elements");
	refused(FIELDS("{'name':'x','type':'uint8','size':3,'array_len':9223372036854775807}"), "elements of 3 bytes");
}

static void names_are_judged(void **state)
{
	(void)state;
	char text[1024], name[257];
	memset(name, 'n', 256);
	name[256] = 0;
	snprintf(text, sizeof text, FIELDS(BYTES("%s", "1")), name);
	refused(text, "field 0: \"name\"");
	name[255] = 0;
	snprintf(text, sizeof text, FIELDS(BYTES("%s", "1")), name);
	accepted(text);
	refused(FIELDS(BYTES("", "1")), "field 0: \"name\"");
	refused(FIELDS(BYTES("a\\nb", "1")), "field 0: \"name\"");
	refused(FIELDS(BYTES("\\u001b[2J", "1")), "field 0: \"name\"");
	refused(FIELDS("{'name':'x','type':'\\u007f','size':1}"), "field 0: \"type\"");
	refused("{'devices':[{'name':'a\\tb','instance_id':0,'vmsd_name':'a','version':1,'fields':[]}]}", "device 0: \"name\"");
	refused(DEVICE("'fields':[],'subsections':[{'vmsd_name':'','version':1,'fields':[]}]"), "subsection 0: \"vmsd");
}

static void a_legacy_device_is_one_field_of_its_size(void **state)
{
	(void)state;
#define LEGACY(size, fields) "{'devices':[{'name':'a','instance_id':0,'size':" size ",'fields':[" fields "]}]}"
	accepted(LEGACY("5", BYTES("data", "5")));
	refused(LEGACY("5", BYTES("data", "4")), "one field of its \"size\", 5 bytes");
	refused(LEGACY("5", BYTES("data", "4") "," BYTES("data", "1")), "one field");
	refused(LEGACY("0", ""), "one field");
	refused(LEGACY("5", "{'name':'data','array_len':2,'type':'buffer','size':5}"), "one field");
	refused("{'devices':[{'name':'a','instance_id':0,'fields':[]}]}", "\"size\"");
}

/* Lists write one object per element into the same field, each with the same keys. */
static void duplicate_keys_are_legal(void **state)
{
	(void)state;
	accepted(FIELDS("{'name':'l','type':'qtailq','vmsd_name':'e','version':1,'fields':[],'vmsd_name':'e',"
			"'version':1,"
			"'fields':[" BYTES("a", "1") "],'size':7}"));
}

static void make_nest(char *text, unsigned levels)
{
	static const char level[] = "{'name':'x','type':'struct','size':0,'struct':{'vmsd_name':'s','version':1,'fields':[";
	strcpy(text, "{'devices':[{'name':'dev','instance_id':0,'vmsd_name':'d','version':7,'fields':[");
	for (unsigned i = 0; i < levels; i++)
		strcat(text, level);
	for (unsigned i = 0; i < levels; i++)
		strcat(text, "]}}");
	strcat(text, "]}]}");
}

static void nesting_has_an_end(void **state)
{
	(void)state;
	static char text[1 << 16];
	make_nest(text, 31);
	accepted(text);
	make_nest(text, 32);
	refused(text, "32 deep");
	memset(text, '[', 60000);
	text[60000] = 0;
	refused(text, "not JSON");
}

static void an_earlier_sentence_is_left_alone(void **state)
{
	(void)state;
	struct gw__error error = {0};
	struct gw__vmdesc *d = NULL;
	gw__error_set(&error, -EIO, "earlier");
	assert_int_equal(gw__vmdesc_parse((const uint8_t *)"{}", 2, &d, &error), -EPROTO);
	assert_string_equal(error.text, "earlier");
	assert_int_equal(gw__vmdesc_parse((const uint8_t *)"", 0, &d, &error), -EPROTO);
	assert_string_equal(error.text, "earlier");
}

/* Fills `text` with {"devices":[ and then `unit` as often as it goes. */
static size_t fill(uint8_t *text, size_t n, const char *head, const char *unit, const char *end)
{
	size_t at = strlen(head);
	memcpy(text, head, at);
	while (at + strlen(unit) + strlen(end) <= n) {
		memcpy(text + at, unit, strlen(unit));
		at += strlen(unit);
	}
	at--; /* the last comma */
	memcpy(text + at, end, strlen(end));
	return at + strlen(end);
}

/* As long as it may be is as long as a guest of thousands of processors has it, and takes little more than its text. */
static void a_text_that_is_too_long_is_refused(void **state)
{
	(void)state;
	static const char device[] = "{\"name\":\"cpu\",\"instance_id\":0,\"vmsd_name\":\"cpu\",\"version\":1,\"fields\":["
				     "{\"name\":\"regs\",\"array_len\":16,\"type\":\"uint64\",\"size\":8}]},";
	size_t n = GW__VMDESC_MAX_BYTES + 1, before = memory.now;
	uint8_t *text = __real_malloc(n);
	struct gw__vmdesc *d = NULL;
	struct gw__error error = {0};
	memset(text, ' ', n);
	fill(text, n - 1, "{\"devices\":[", device, "]}");
	assert_int_equal(gw__vmdesc_parse(text, n, &d, &error), -E2BIG);
	assert_int_equal(error.code, -E2BIG);
	memory.peak = before;
	assert_int_equal(gw__vmdesc_parse(text, n - 1, &d, NULL), 0);
	assert_true(gw__vmdesc_count(d) > 400000);
	assert_true(memory.peak - before < 3 * n);
	gw__vmdesc_free(d);
	__real_free(text);
}

/* Devices are found by their commas and brackets; what only looks so is inside a string, or no JSON. */
static void devices_are_told_apart(void **state)
{
	(void)state;
	struct gw__vmdesc *d =
		parsed(" { 'a' : { 'devices' : [ { } ] , '\\'' : ']}' } , 'devices' : [ "
		       "{'name':'x],[{','instance_id':1,'vmsd_name':'\\\\','version':1,'fields':[]} , \n"
		       "{'name':'y','instance_id':2,'vmsd_name':'v','version':1,'fields':[],'b':[[],{}]}\t] , 'page_size' : 4096 } ");
	assert_int_equal(gw__vmdesc_count(d), 2);
	assert_string_equal(gw__vmdesc_device(d, 0).name, "x],[{");
	assert_int_equal(gw__vmdesc_device(d, 1).instance, 2);
	assert_int_equal(gw__vmdesc_page_bytes(d), 4096);
	gw__vmdesc_free(d);
	accepted("{'devices':[ ]}");
	accepted("{'devices':7,'devices':[]}");
	refused("{'devices':[" DEVICE_X ",]}", "not JSON at byte");
	refused("{'devices':[," DEVICE_X "]}", "not JSON at byte 12");
	refused("{'devices':[" DEVICE_X "}]", "not JSON");
	refused("{'devices':[" DEVICE_X "},'a':1}", "not JSON");
	refused("{'devices':[" DEVICE_X " " DEVICE_X "]}", "not JSON");
	refused("{'devices':[" DEVICE_X "],'devices':[" DEVICE_X "]}", "stands there twice");
	refused("{'devices':[" DEVICE_X "],'devices':7}", "not an array");
	refused("{'devices':[" DEVICE_X "]", "not JSON");
	refused("{'devices':[" DEVICE_X "]}]", "not JSON");
	refused("{'devices':[{'a':1]}", "not JSON");
	refused("{'devices' [" DEVICE_X "]}", "not JSON");
	refused("{'devices':['\\u0000']}", "not JSON");
}

static void a_hostile_text_cannot_take_much_memory(void **state)
{
	(void)state;
	static const struct {
		const char *head, *unit, *end;
	} shapes[] = {
		{"{\"devices\":[", "{},", "]}"},
		{"{\"devices\":[", "[],", "]}"},
		{"{\"a\":\"\\\"\",\"devices\":[", "[],", "]}"},
		{"{\"devices\":[", "\"\",", "]}"},
		{"{\"devices\":[", "1,", "]}"},
		{"{\"devices\":[", "{\"\":1},", "]}"},
		{"{\"devices\":[", "{\"a\":[{}]},", "]}"},
		{"{\"devices\":[", "[[[[[[[[]]]]]]]],", "]}"},
		{"{\"devices\":[", "{\"a\":{\"a\":{\"a\":{}}}},", "]}"},
		{"{\"devices\":[{\"name\":\"a\",\"instance_id\":0,\"vmsd_name\":\"a\",\"version\":1,"
		 "\"fields\":[",
			"{\"name\":\"x\",\"type\":\"u\",\"size\":1},", "]}]}"},
		{"{\"devices\":[{\"name\":\"a\",\"instance_id\":0,\"vmsd_name\":\"a\",\"version\":1,"
		 "\"fields\":[",
			"{\"name\":\"x\",\"type\":\"u\",\"size\":1,\"struct\":{\"vmsd_name\":\"n\","
			"\"version\":1,\"fields\":[]}},",
			"]}]}"},
		{"{\"devices\":[{\"name\":\"a\",\"instance_id\":0,\"vmsd_name\":\"a\",\"version\":1,"
		 "\"fields\":[",
			"{},", "]}]}"},
	};
	enum { MOST = 4 << 20 };
	uint8_t *text = malloc(MOST);
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		for (size_t n = MOST; n > MOST / 20; n -= n / 3) {
			struct gw__vmdesc *d = NULL;
			size_t before = memory.now;
			memory.peak = memory.now;
			size_t len = fill(text, n, shapes[i].head, shapes[i].unit, shapes[i].end);
			int r = gw__vmdesc_parse(text, len, &d, NULL);
			assert_true(r == 0 || r == -EPROTO || r == -E2BIG);
			if (memory.peak - before > ((size_t)40 << 20) + 3 * len)
				fail_msg("%zu bytes of %s took %zu bytes", len, shapes[i].unit, memory.peak - before);
			if (r == 0)
				assert_true(memory.now - before < 3 * len);
			gw__vmdesc_free(d);
			assert_int_equal(memory.now, before);
		}
	free(text);
}

/* One object with as many different keys as there is room for: jansson's table doubles while the old one
 * lives. */
static void many_different_keys_cannot_take_much_memory(void **state)
{
	(void)state;
	char *text = malloc(GW__VMDESC_MAX_BYTES);
	struct gw__vmdesc *d = NULL;
	if (!text)
		abort(); /* said so that gcc sees it under sanitizers too */
	for (unsigned keys = 300000; keys > 50000; keys /= 2) {
		size_t at = (size_t)sprintf(text, "{\"devices\":[]");
		for (unsigned i = 0; i < keys; i++)
			at += (size_t)sprintf(text + at, ",\"%x\":1", i);
		text[at++] = '}';
		assert_true(at <= GW__VMDESC_MAX_BYTES);
		size_t before = memory.now;
		memory.peak = before;
		d = NULL;
		int r = gw__vmdesc_parse((uint8_t *)text, at, &d, NULL);
		assert_true(r == 0 || r == -E2BIG);
		assert_true(memory.peak - before <= ((size_t)40 << 20) + 3 * at);
		gw__vmdesc_free(d);
	}
	free(text);
}

/* Parses SPEC_FORM with the n-th allocation failing: the result, or 1 when there are fewer. */
static int parse_without(long n)
{
	struct gw__vmdesc *d = NULL;
	struct gw__error error = {0};
	uint8_t text[sizeof SPEC_FORM];
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = SPEC_FORM[i] == '\'' ? '"' : (uint8_t)SPEC_FORM[i];
	size_t before = memory.now;
	memory.failed = false;
	memory.until_failure = n;
	int r = gw__vmdesc_parse(text, sizeof text - 1, &d, &error);
	memory.until_failure = -1;
	assert_int_equal(r, error.code);
	assert_int_equal(r == 0, d != NULL);
	gw__vmdesc_free(d);
	assert_int_equal(memory.now, before);
	return memory.failed ? r : 1;
}

static void every_allocation_of_ours_may_fail(void **state)
{
	(void)state;
	long n = 0;
	int r;
	json_set_alloc_funcs(count_malloc, __wrap_free);
	while ((r = parse_without(n)) != 1) {
		assert_int_equal(r, -ENOMEM);
		n++;
	}
	json_set_alloc_funcs(__wrap_malloc, __wrap_free);
	assert_true(n >= 5);
}

/* Jansson takes a lack of memory for bad syntax now and then; what counts is that nothing is lost. */
static void every_allocation_of_jansson_may_fail(void **state)
{
	(void)state;
	long n = 0;
	int r;
	while ((r = parse_without(n)) != 1) {
		assert_true(r == -ENOMEM || r == -EPROTO);
		n++;
	}
	assert_true(n > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(devices_are_listed),
		cmocka_unit_test(a_description_may_leave_the_page_size_out),
		cmocka_unit_test(a_page_size_is_a_power_of_two_in_range),
		cmocka_unit_test(any_part_of_a_description_is_refused),
		cmocka_unit_test(every_member_is_needed),
		cmocka_unit_test(a_failure_deep_inside_says_where),
		cmocka_unit_test(numbers_are_integers_in_range),
		cmocka_unit_test(a_product_that_does_not_fit_is_refused),
		cmocka_unit_test(names_are_judged),
		cmocka_unit_test(a_legacy_device_is_one_field_of_its_size),
		cmocka_unit_test(duplicate_keys_are_legal),
		cmocka_unit_test(nesting_has_an_end),
		cmocka_unit_test(an_earlier_sentence_is_left_alone),
		cmocka_unit_test(a_text_that_is_too_long_is_refused),
		cmocka_unit_test(devices_are_told_apart),
		cmocka_unit_test(a_hostile_text_cannot_take_much_memory),
		cmocka_unit_test(many_different_keys_cannot_take_much_memory),
		cmocka_unit_test(every_allocation_of_ours_may_fail),
		cmocka_unit_test(every_allocation_of_jansson_may_fail),
	};
	json_set_alloc_funcs(__wrap_malloc, __wrap_free);
	return cmocka_run_group_tests_name("vmdesc", tests, NULL, NULL);
}
