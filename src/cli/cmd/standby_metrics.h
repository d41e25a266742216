/* SPDX-License-Identifier: MIT */
/*
 * Eyes on a standby: metrics in Prometheus' text format, in a file that is replaced as a whole and over HTTP, and what systemd is told (sd_notify). A thread
 * of its own looks every second; HTTP looks when it is asked. The command's thread makes all calls.
 */
#ifndef GW_CLI_CMD_STANDBY_METRICS_H
#define GW_CLI_CMD_STANDBY_METRICS_H

#include "base/error.h"

struct gw__cli_metrics;

struct gw__cli_metrics_opts {
	const char *dir;    /* of the guests */
	const char *file;   /* NULL: none */
	const char *listen; /* HOST:PORT, [HOST]:PORT or :PORT, which is this host alone. NULL: none */
};

/* Where nothing of it is wanted, and systemd does not listen either, *m is NULL and 0 is returned. A failure has a sentence. */
int gw__cli_metrics_start(const struct gw__cli_metrics_opts *o, struct gw__cli_metrics **m, struct gw__error *error);
/* Systemd is told that the standby is ready. */
void gw__cli_metrics_ready(struct gw__cli_metrics *m);
unsigned gw__cli_metrics_port(const struct gw__cli_metrics *m); /* of HTTP; 0: none */
void gw__cli_metrics_stop(struct gw__cli_metrics *m);           /* NULL is fine */

/* The text, for all guests below a folder; to be freed. NULL: the folder cannot be read, or no memory. */
char *gw__cli_metrics_text(const char *dir);

#endif
