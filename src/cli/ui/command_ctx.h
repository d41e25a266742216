/* SPDX-License-Identifier: MIT */
/*
 * A job as a command runs it: with progress, trace (GODWIT_TRACE=1) and a way to stop. The first SIGINT,
 * SIGTERM or SIGHUP cancels the job, so that the command can say what became of the guest; a second one ends
 * the process immediately.
 */
#ifndef GW_CLI_UI_COMMAND_CTX_H
#define GW_CLI_UI_COMMAND_CTX_H

#include <godwit-qemu.h>

#include "cli/ui/options.h"
#include "cli/ui/output.h"
#include "cli/ui/progress.h"

struct gw__command_ctx {
	gw_job *job;
	gw_qemu *qemu;                       /* of gw__command_ctx_drive; NULL without */
	const struct gw__cli_common *common; /* borrowed */
	struct gw__cli_progress progress;
	char error[1024]; /* of gw__command_qemu_error */
};

/* GW__CLI_GO, or the exit status after a sentence. End with gw__command_ctx_end in any case. */
int gw__command_ctx_begin(struct gw__command_ctx *w, const struct gw__cli_common *c);
void gw__command_ctx_end(struct gw__command_ctx *w);

/* For a command that drives a QEMU: w->qemu, whose words are messages. GW__CLI_GO, or the exit status after a sentence. */
int gw__command_ctx_drive(struct gw__command_ctx *w);

/* Why the last call of w->qemu failed, and what may be done about it, in the words of our options. "" when it did not. */
const char *gw__command_qemu_error(struct gw__command_ctx *w);

/* The file beside an image that keeps its working set: to be freed. NULL: no memory. */
char *gw__working_set_path(const char *image);

/*
 * For a command to which many connect: as many descriptors as this process may have. The usual soft limit is for programs that use select(), so
 * it is not for a command that starts a program of its user's, which would inherit it.
 */
void gw__cli_raise_descriptor_limit(void);

/* The signal that stopped the work, 0 if none. */
int gw__cli_stopped(void);

/* Why the job's last call failed: the signal that stopped it, or its own sentence. */
const char *gw__command_error(const struct gw__command_ctx *w);

/* The status for a call that failed with `rc` before anything was moved: the plan refused, a URI was wrong, or it failed. */
int gw__cli_status_before(int rc);

/*
 * Says why the job's last call failed and, when `state` is not NULL, what the state of things is ("nothing
 * was written"); as a message and, with --json, as an event. Returns `status`.
 */
int gw__command_ctx_failed(struct gw__command_ctx *w, int status, const char *state);
/* The same with a sentence of the command's own. */
int gw__cli_failed(const struct gw__cli_common *c, int status, const char *fmt, ...) GW__PRINTF(3, 4);
/* The same where the guest's place decides: the status is the outcome's, which the event names too. */
int gw__command_ctx_failed_at(struct gw__command_ctx *w, const struct gw_outcome *outcome, const char *state);
int gw__cli_failed_at(const struct gw__cli_common *c, const struct gw_outcome *outcome, const char *fmt, ...) GW__PRINTF(3, 4);
/* Fields of a result: where the guest is. Takes and returns `object`; NULL stays NULL. */
json_t *gw__cli_json_at(json_t *object, const struct gw_outcome *outcome);

#endif
