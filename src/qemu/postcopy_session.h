/* SPDX-License-Identifier: MIT */
/*
 * Post-copy from an image into a QEMU, between the calls that do it: a lazy gw_qemu_restore() and gw_qemu_serve(). postcopy_session.c drives the
 * QEMU through it, postcopy_session_serve.c is the page server's turns, postcopy_session_monitor.c gets the monitor, from QEMU or from a monitor broker,
 * postcopy_session_recover.c gets a QEMU to listen again. One thread. Keeps nothing outside the image, the QEMU and the broker.
 */
#ifndef GW_QEMU_POSTCOPY_SESSION_H
#define GW_QEMU_POSTCOPY_SESSION_H

#include "qemu/driver.h"
#include "qemu/monitor_broker.h"
#include "qmp/qmp.h"

/* Where the guest is, as far as we know. The outcome and what becomes of the monitor broker follow from it. */
enum gw__session_guest {
	GW__GUEST_NOT_HERE,        /* not in this QEMU: it was not given, or it was lost with it */
	GW__GUEST_UNKNOWN,         /* this QEMU may have it */
	GW__GUEST_POSTCOPY_PAUSED, /* in this QEMU, which lacks pages */
	GW__GUEST_COMPLETE,        /* in this QEMU, with every page */
	GW__GUEST_ENDED,           /* it was in this QEMU, which was shut down */
	GW__GUEST_QEMU_HUNG,       /* QEMU lost its page server while it loaded the devices, and hangs */
};

enum { GW__POSTCOPY_SESSION_HELD_UP_MS = 3000 }; /* for an answer in band of a QEMU that may be held up */

struct gw__postcopy_session {
	/* What is asked for; borrowed. */
	const char *path;
	uint64_t offset;
	struct gw_qemu_postcopy_opts opts;
	struct gw_link_opts link_opts;
	struct gw_tls_opts tls_opts; /* creds_dir NULL: plain */
	bool resume_only;
	bool foreign_qemu; /* it may run as another user */
	gw_qemu *driver;
	struct gw__qmp *qmp; /* of gw__postcopy_session_open, or the caller's */

	/* What is known of the QEMU; a monitor broker has a copy. */
	struct gw__monitor_broker broker;
	pid_t qemu;    /* its process, where that is the one at the other end of the monitor; 0: not known */
	char name[32]; /* pid:N of a QEMU whose monitor has no address, for the next page server; "" */
	enum gw__monitor_broker_phase phase;
	struct gw__qmp_settings *before; /* NULL when nobody knows how they were */
	struct gw__qmp_block *blocks;    /* NULL: not asked, or not answered */
	unsigned blocks_n;
	bool blocks_asked;  /* by us, so that their sizes are known too */
	char listened[256]; /* where it listened at the user's wish, with its real port; "" */
	char reached[256];  /* and how we got there, if by another address; "" */
	bool tls, tls_known;
	enum gw_preempt preempt;
	bool preempt_known;
	bool loading; /* it has a link, and not yet said that it loaded the guest's devices: until then no page is its last */

	char fingerprint[33];       /* of the image it got its guest from; "" when that was not ours to see */
	char file[48], written[64]; /* which file that was, and when it was written to last */

	/* What it makes. */
	char folder[32];     /* of the sockets QEMU listens at; "" without */
	bool folder_is_ours; /* else the broker's */
	bool taken;          /* l->uri is a predecessor's: somebody else may listen there by now */
	int socket;          /* to that */
	char listen[256];    /* where QEMU listens now */
	char uri[256];       /* how we get there; fd:N of a link that is joined */
	int link;            /* on which a predecessor was recovering; -1: none */
	bool takeover_fd;
	bool resumes;     /* the link that stands, or is being made */
	bool memory_only; /* the image has no devices: it can complete a QEMU, not give it a guest */
	bool refused;     /* nothing was done: this QEMU waits for no guest, or another page server has it */
	enum gw__session_guest guest;
	struct gw_serve_result result;
	struct gw__error error;
};
#define GW__POSTCOPY_SESSION_INIT                                                                                                          \
	{                                                                                                                                  \
		.broker = GW__MONITOR_BROKER_INIT, .link = -1                                                                              \
	}

/* What was asked for becomes l->opts and those it names. NULL: defaults. 0, or -EINVAL or -E2BIG with a sentence in l->error. */
int gw__postcopy_session_set_opts(struct gw__postcopy_session *l, const struct gw_qemu_postcopy_opts *o);

/* Whether a guest can run before its memory is loaded: 0, or -EOPNOTSUPP with the reason, and a hint for the driver. */
int gw__postcopy_session_check(gw_qemu *driver, const char *path, const gw_info *info, struct gw__error *error);

/*
 * Until QEMU has every page. 0, or a negative errno with l->why; l->guest says where the guest is. It may have every page all the same:
 * then something after that failed. A QEMU that waits for a guest is given one, one in postcopy-paused is resumed.
 */
int gw__postcopy_session_run(struct gw__postcopy_session *l);
void gw__postcopy_session_end(struct gw__postcopy_session *l);

/*
 * postcopy_session_monitor.c: the monitor at `address` (also pid:N), from its monitor broker or from QEMU, and a monitor broker for it. Where there can be
 * none, the work goes on without.
 */
int gw__postcopy_session_open(struct gw__postcopy_session *l, const char *address, int timeout_ms);
/* A monitor broker for a monitor that is open already; `address` NULL: it has none, only a QEMU at its other end. -EBUSY. */
int gw__postcopy_session_guard(struct gw__postcopy_session *l, const char *address);
/* Its copy of what is known is brought up to date; `phase` never goes back. */
void gw__postcopy_session_publish(struct gw__postcopy_session *l, enum gw__monitor_broker_phase phase);
void gw__postcopy_session_publish_loaded(struct gw__postcopy_session *l); /* the same: it has its devices, l->loading no more */

/* postcopy_session_serve.c: the QEMU listens; pages until it has them all, through recoveries too. 0 or a negative errno with l->why. */
int gw__postcopy_session_serve(struct gw__postcopy_session *l, bool resume);

/* postcopy_session_recover.c: a QEMU whose guest may run listens at l->listen, or has got everything (l->guest). */
int gw__postcopy_session_recover(struct gw__postcopy_session *l);
/* postcopy_session_image.c: the image is still the one this QEMU has pages of (`resume`), or is from now on: 0, or -ESTALE. */
int gw__postcopy_session_check_image(struct gw__postcopy_session *l, bool resume);

/* postcopy_session_guest.c: the monitor is over, and so may QEMU be. */
void gw__postcopy_session_note_gone(struct gw__postcopy_session *l);
bool gw__postcopy_session_needs_successor(const struct gw__postcopy_session *l);

/* postcopy_session_link.c: l->listen and l->uri, for the first time or again; what is wished, or new ones in a private folder. */
int gw__postcopy_session_address(struct gw__postcopy_session *l, bool again);
int gw__postcopy_session_listening(struct gw__postcopy_session *l);                             /* QEMU listens there for the first time */
bool gw__postcopy_session_is_wished(const struct gw__postcopy_session *l, const char *address); /* at which QEMU listens already */
bool gw__postcopy_session_is_private(const char *address);                                      /* one in such a folder */
int gw__postcopy_session_take_address(struct gw__postcopy_session *l, const char *uri);         /* a predecessor's private one */
/* Connected to that: is it QEMU who is there? False, with a sentence. */
bool gw__postcopy_session_is_qemu(struct gw__postcopy_session *l, int fd);
void gw__postcopy_session_remove_socket(struct gw__postcopy_session *l); /* nobody needs to find it any more */

/* postcopy_session_tls.c: QEMU's tls-creds, from l->before, become what our own ask for. */
int gw__postcopy_session_set_tls(struct gw__postcopy_session *l);
/* A QEMU that listens already has the same idea of TLS as we, or nobody can tell: 0, or -EINVAL. */
int gw__postcopy_session_check_tls(struct gw__postcopy_session *l);

/* postcopy_session_preempt.c: of a QEMU whose settings are ours to make, 0 or -EOPNOTSUPP; of one that had them before. */
int gw__postcopy_session_choose_preempt(struct gw__postcopy_session *l);
void gw__postcopy_session_ask_preempt(struct gw__postcopy_session *l);
/* In a recovery: QEMU has accepted every connection that was made. */
void gw__postcopy_session_await_accepted(struct gw__postcopy_session *l);

/* "QEMU ended the migration ...", -EREMOTEIO: what it had of the guest is lost. */
int gw__postcopy_session_say_ended(struct gw__postcopy_session *l, const struct gw__qmp_migration *m);

#endif
