/* SPDX-License-Identifier: MIT */
/* The options of post-copy from an image, which `serve` and `restore --lazy` share. */
#ifndef GW_CLI_CMD_POSTCOPY_OPTS_H
#define GW_CLI_CMD_POSTCOPY_OPTS_H

#include <godwit-qemu.h>

#include "cli/ui/options.h"

/* Zeroed ones are the defaults. */
struct gw__cli_postcopy_opts {
	struct gw_qemu_postcopy_opts o;
	struct gw_link_opts link;
	struct gw_tls_opts tls;       /* creds_dir NULL: plain */
	unsigned without_working_set; /* a choice */
	char *working_set;            /* its file, by gw__cli_postcopy_opts_fill */
};
#define GW__CLI_POSTCOPY_OPTIONS(w)                                                                                                           \
	GW__CLI_TEXT("listen", "URI", &(w)->o.listen,                                                                                         \
		"where QEMU listens for the page server: tcp:HOST:PORT, unix:PATH (default: a private unix socket)"),                         \
		GW__CLI_TEXT("connect", "URI", &(w)->o.connect, "the address to connect to, if it differs from --listen"),                    \
		GW__CLI_SECONDS("connect-timeout", &(w)->link.connect_timeout_ms, "how long to try to reach QEMU there (default: 10)"),       \
		GW__CLI_SECONDS("answer-timeout", &(w)->o.answer_timeout_ms, "how long QEMU may take for an answer (default: 60)"),           \
		GW__CLI_FLAG("preempt", &(w)->o.preempt,                                                                                      \
			"send requested pages over a second connection; QEMU 10.0 and 11.1 can crash if the link breaks"),                    \
		GW__CLI_CHOICE("working-set", "on|off", &(w)->without_working_set,                                                            \
			"first push the pages that were requested last time (IMAGE.ws), and record the requests of this time (default: on)"), \
		GW__CLI_TEXT("tls-creds", "DIR", &(w)->tls.creds_dir, "use TLS with the credentials in this folder"),                         \
		GW__CLI_TEXT("tls-hostname", "NAME", &(w)->tls.hostname,                                                                      \
			"the name that QEMU's certificate must have (default: the host of a tcp: URI)"),                                      \
		GW__CLI_TLS_PRIORITY(&(w)->tls.priority), GW__CLI_TLS_USERNAME(&(w)->tls.psk_name)

/* GW__CLI_GO, or GW__EXIT_USAGE after a sentence. */
int gw__cli_postcopy_opts_check(const struct gw__cli_postcopy_opts *w);
bool gw__cli_postcopy_opts_given(const struct gw__cli_postcopy_opts *w);
/* w->o is what the library takes, for this image. GW__CLI_GO, or the exit status after a sentence. */
int gw__cli_postcopy_opts_fill(struct gw__cli_postcopy_opts *w, const char *image);

#endif
