/* SPDX-License-Identifier: MIT */
/*
 * Options of a command, declared as rows: from one table come parsing, checking and the text of --help.
 * tests/cli compares that text with the man page. Rows point at the command's own variables, which hold the
 * defaults.
 */
#ifndef GW_CLI_UI_OPTIONS_H
#define GW_CLI_UI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/math.h"

enum gw__cli_type {
	GW__CLI_TYPE_FLAG,
	GW__CLI_TYPE_TEXT,
	GW__CLI_TYPE_SIZE,    /* bytes; suffix K, M, G or T */
	GW__CLI_TYPE_SECONDS, /* may have a fraction; kept in milliseconds. "none" is -1 */
	GW__CLI_TYPE_COUNT,   /* 0 and more */
	GW__CLI_TYPE_FD,      /* an open descriptor */
	GW__CLI_TYPE_CHOICE,  /* one of the words in `arg`, separated by | */
	GW__CLI_TYPE_LIST,    /* may be given again and again; each value is kept */
};

/* The values of an option that may be given again and again, in order. */
enum { GW__CLI_LIST_MAX = 64 };
struct gw__cli_list {
	const char *v[GW__CLI_LIST_MAX];
	unsigned n;
};

struct gw__cli_option {
	const char *name; /* long, without dashes */
	char letter;      /* 0: none */
	const char *arg;  /* name of its argument, NULL for a flag */
	const char *help;
	enum gw__cli_type type;
	unsigned most; /* of a COUNT; 0: any number */
	bool *given;   /* set when the option is used; may be NULL */
	union {
		bool *flag;
		const char **text;
		uint64_t *size;
		int *ms;
		unsigned *count;
		int *fd;
		unsigned *choice; /* 0, 1, ... */
		struct gw__cli_list *list;
	} to;
};

#define GW__CLI_FLAG(n, p, h)                                                                                                              \
	{                                                                                                                                  \
		.name = n, .help = h, .type = GW__CLI_TYPE_FLAG, .to.flag = p                                                              \
	}
#define GW__CLI_TEXT(n, a, p, h)                                                                                                           \
	{                                                                                                                                  \
		.name = n, .arg = a, .help = h, .type = GW__CLI_TYPE_TEXT, .to.text = p                                                    \
	}
#define GW__CLI_BYTES(n, a, p, h)                                                                                                          \
	{                                                                                                                                  \
		.name = n, .arg = a, .help = h, .type = GW__CLI_TYPE_SIZE, .to.size = p                                                    \
	}
#define GW__CLI_SECONDS(n, p, h)                                                                                                           \
	{                                                                                                                                  \
		.name = n, .arg = "SECONDS", .help = h, .type = GW__CLI_TYPE_SECONDS, .to.ms = p                                           \
	}
#define GW__CLI_COUNT(n, a, p, h)                                                                                                          \
	{                                                                                                                                  \
		.name = n, .arg = a, .help = h, .type = GW__CLI_TYPE_COUNT, .to.count = p                                                  \
	}
/* What a QEMU can be told, and what a channel's number has room for. */
#define GW__CLI_CHANNELS(p, h)                                                                                                             \
	{                                                                                                                                  \
		.name = "channels", .arg = "N", .help = h, .type = GW__CLI_TYPE_COUNT, .most = 255, .to.count = p                          \
	}
#define GW__CLI_TLS_PRIORITY(p)                                                                                                            \
	GW__CLI_TEXT("tls-priority", "STRING", p, "GnuTLS priority string (default: NORMAL; TLS before 1.2 is never used)")
#define GW__CLI_TLS_USERNAME(p) GW__CLI_TEXT("tls-username", "NAME", p, "the user of keys.psk whose key is used (default: qemu)")
#define GW__CLI_CHOICE(n, a, p, h)                                                                                                         \
	{                                                                                                                                  \
		.name = n, .arg = a, .help = h, .type = GW__CLI_TYPE_CHOICE, .to.choice = p                                                \
	}

#define GW__CLI_LIST(n, a, p, h)                                                                                                           \
	{                                                                                                                                  \
		.name = n, .arg = a, .help = h, .type = GW__CLI_TYPE_LIST, .to.list = p                                                    \
	}

/* What every command understands. */
struct gw__cli_common {
	bool json;
	bool verbose;
	bool quiet;
	int progress_fd;     /* -1: none */
	uint64_t page_bytes; /* of the guest's target; 0: not told */
};
#define GW__CLI_COMMON_INIT                                                                                                                \
	{                                                                                                                                  \
		.progress_fd = -1                                                                                                          \
	}
#define GW__CLI_JSON(c) GW__CLI_FLAG("json", &(c)->json, "print one JSON object per line on standard output")
#define GW__CLI_VERBOSE(c)                                                                                                                 \
	{                                                                                                                                  \
		.name = "verbose", .letter = 'v', .help = "print decisions and steps", .to.flag = &(c)->verbose                            \
	}
#define GW__CLI_QUIET(c)                                                                                                                   \
	{                                                                                                                                  \
		.name = "quiet", .letter = 'q', .help = "show no progress bar, and print errors only", .to.flag = &(c)->quiet              \
	}
#define GW__CLI_PAGE_SIZE(c)                                                                                                               \
	GW__CLI_BYTES("page-size", "BYTES", &(c)->page_bytes, "the guest's page size, where it is not 4K and the stream does not state it")
#define GW__CLI_PROGRESS(c)                                                                                                                \
	{                                                                                                                                  \
		.name = "progress", .arg = "FD", .help = "write progress as lines of key=value words to descriptor FD",                    \
		.type = GW__CLI_TYPE_FD, .to.fd = &(c)->progress_fd                                                                        \
	}

/* For commands that move a guest. */
#define GW__CLI_COMMON(c) GW__CLI_VERBOSE(c), GW__CLI_QUIET(c), GW__CLI_PROGRESS(c), GW__CLI_JSON(c)

struct gw__cli_usage {
	const char *synopsis; /* after the command's name: "URI IMAGE [options]" */
	const char *summary;  /* one or more whole sentences */
	const struct gw__cli_option *option;
	unsigned options_n;
	int min, max;       /* plain arguments; max -1: any number */
	bool takes_command; /* everything after "--" is a command line and not checked */
};
#define GW__CLI_USAGE(syn, sum, opt, lo, hi)                                                                                               \
	{                                                                                                                                  \
		.synopsis = syn, .summary = sum, .option = opt, .options_n = GW__LEN(opt), .min = lo, .max = hi                            \
	}

struct gw__cli_args {
	char **arg; /* the plain ones, in order; borrowed from argv */
	int n;
	char **command; /* after "--", NULL-terminated; NULL when there was no "--" or it is not taken */
};

/* 32 hexadecimal digits, in groups of 8-4-4-4-12 as uuidgen prints them. False: it is not one; `to` is then undefined. */
bool gw__cli_parse_uuid(const char *text, uint8_t to[16]);
/* "4096", "64K", "0x1000": 0 and the bytes, or -EINVAL. */
int gw__cli_parse_size(const char *text, uint64_t *bytes);
/* The value of an option goes where its row points: 0, or -EINVAL after a sentence. `text` is kept by texts and lists. */
int gw__cli_take_value(const struct gw__cli_option *o, const char *text);

enum { GW__CLI_GO = -1 };

/*
 * An argument that names an image: a file that has the name goes first, else file:PATH is PATH, and other URIs are refused with a sentence, as
 * an image is a file. GW__CLI_GO, or GW__EXIT_USAGE.
 */
int gw__cli_image_name(const char *command, char **name);

/*
 * `argv[0]` is the command's name. GW__CLI_GO: go on. Anything else is the exit status to end with: help was
 * printed, or a sentence said what is wrong with the command line.
 */
int gw__cli_parse(const struct gw__cli_usage *u, int argc, char **argv, struct gw__cli_args *args);

#endif
